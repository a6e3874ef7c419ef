"""Server processes: start them pinned to a core, ask what CPU they have used, end them."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
from load import pinned


class Server:
    """`argv` in a session of its own; its output goes to `log`, its temporary files beside that."""

    def __init__(
        self,
        argv: list[str],
        log: Path,
        core: int | None,
        environment: Mapping[str, str] = {},
        folder: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                pinned(argv, core),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "TMPDIR": str(log.parent),
                    **environment,
                },
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """SIGTERM, and after ten seconds SIGKILL to whatever of the family is left."""
        left = family(self.pid)
        if not self.ended:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)


def family(root: int) -> list[psutil.Process]:
    """The process and all that it started, the living ones."""
    try:
        parent = psutil.Process(root)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU time so far of those that live."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def settle(seconds: float, busy_percent: float = 30.0) -> None:
    """Wait until the machine has nothing left to do, `seconds` at most."""
    deadline = time.monotonic() + seconds
    while psutil.cpu_percent(0.3) > busy_percent and time.monotonic() < deadline:
        pass


def post(port: int, raw: bytes, timeout_s: float = 10.0) -> tuple[int, dict[str, str], bytes]:
    """Send one prepared request; its answer's status, headers (lower case) and body."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(raw)
        stream = connection.makefile("rb")
        status = int(stream.readline().split()[1])
        headers: dict[str, str] = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" in headers:
            return status, headers, stream.read(int(headers["content-length"]))
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        return status, headers, body


def wait_for_answer(server: Server, port: int, raw: bytes, seconds: float) -> None:
    """Until one request is answered with 200. Raises RuntimeError with the log's end."""
    deadline = time.monotonic() + seconds
    seen = "nothing listens"
    while time.monotonic() < deadline and not server.ended:
        try:
            status, _, body = post(port, raw)
        except (OSError, ValueError, IndexError) as error:
            seen = str(error)
        else:
            if status == 200:
                return
            seen = f"{status} {body[:200]!r}"
        time.sleep(0.2)
    tail = server.log.read_text(errors="replace")[-1500:]
    raise RuntimeError(f"no answer ({seen}); its log ends: {tail}")
