"""A real PostgreSQL on loopback, which a test can stop and start again. Debian's packages put it
where it is looked for; elsewhere `initdb` must be on the PATH."""

import itertools
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from driftloop_settings.ports import free_port

START_S = 60.0
SUPERUSER = "postgres"
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}
# The server lives as long as the shell's standard input is open, so it ends with the test process,
# however that ends. SIGQUIT: at once, without waiting for clients.
_WHILE_OPEN = '"$@" & server=$!; read -r _; kill -QUIT $server; wait $server'


class PostgresServer:
    """Make it with `postgres_server`."""

    def __init__(self, programs: Path, root: Path, host: str) -> None:
        self._programs, self._root, self._host = programs, root, host
        self._data = root / "data"
        self._port = free_port()
        self._shell: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        # initdb and postgres refuse root.
        self._user = _unprivileged_user()
        if self._user is not None:
            shutil.chown(root, self._user)
        self._run(
            "initdb", "-D", str(self._data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8",
            "--locale=C", "--no-sync",
        )  # fmt: skip
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")

    def start(self) -> None:
        """Returns when it answers, on the same port each time."""
        # A crashed server leaves its lock file; nobody else uses this folder.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        options = [f"-c{name}={value}" for name, value in OPTIONS.items()]
        options.append(f"-clisten_addresses={self._host}")
        server = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self._port)]
        with (self._root / "log").open("ab") as log:
            self._shell = subprocess.Popen(
                ["sh", "-c", _WHILE_OPEN, "sh", *server, "-k", str(self._root), *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._root,
                user=self._user,
                extra_groups=[] if self._user else None,
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline, (self._root / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """At once: clients lose their connections, what was committed stays."""
        if self._shell is not None:
            assert self._shell.stdin is not None
            self._shell.stdin.close()
            self._shell.wait(START_S)
            self._shell = None

    def database(self, name: str = "") -> str:
        """The SQLAlchemy URL of a new, empty database."""
        name = name or f"test_{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" STRATEGY file_copy')
        return f"postgresql+psycopg://{SUPERUSER}@{self._host}:{self._port}/{name}"

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=self._host, port=self._port, user=SUPERUSER, autocommit=True, connect_timeout=10
        )

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), self._connect():
            return True
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self._root,
            user=self._user,
            extra_groups=[] if self._user else None,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def find_programs() -> Path | None:
    """The folder with `initdb` and `postgres`, or None if PostgreSQL is not installed."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    by_version = {int(re.sub(r"\D", "", p.parts[-3])): p.parent for p in installed}
    return by_version[max(by_version)] if by_version else None


@contextmanager
def postgres_server(programs: Path, host: str = "127.0.0.1") -> Iterator[PostgresServer]:
    """A running server in a folder of its own, which goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as root:
        server = PostgresServer(programs, Path(root), host)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _unprivileged_user() -> str | None:
    """Whom to run as; None: ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)
