"""A demo's own stack, used only through the public commands and HTTP."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx

from driftloop_contracts.errors import Conflict, Unavailable
from driftloop_http.clients import own_client

Record = dict[str, Any]


class Say(Protocol):
    """Prints one line: strings, and (string, style) pairs."""

    def __call__(self, *parts: str | tuple[str, str]) -> None: ...


FREE_PORTS = ("serving.port=0", "serving.grpc_port=0", "control.port=0", "kafka.port=0")
"""Any free ports, so that a demo does not collide with a running stack."""


class Commands:
    """Runs `driftloop` commands as a person would, always with --json."""

    def __init__(self, home: Path, sets: Sequence[str]) -> None:
        self._tail = ["--state-dir", str(home), "--json"]
        for item in sets:
            self._tail += ["--set", item]

    def start(self, *words: str) -> "subprocess.Popen[str]":
        argv = [sys.executable, "-m", "driftloop_cli", *words, *self._tail]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @staticmethod
    def result(process: "subprocess.Popen[str]") -> Record:
        out, err = process.communicate()
        if process.returncode != 0:
            try:
                reason = json.loads(out)["error"]
            except (ValueError, KeyError, TypeError):
                reason = (err or out).strip()[-2000:]
            words = process.args
            name = words[3] if isinstance(words, list) else ""
            raise Unavailable(f"`driftloop {name!s}` failed: {reason}")
        document: Record = json.loads(out)
        return document

    def __call__(self, *words: str) -> Record:
        return self.result(self.start(*words))


def tell_console(home: Path, sets: Sequence[str], say: Say) -> None:
    """Say where the console will be, before anything runs: ports that are left open are chosen
    here, and `up` takes the same. Raises Rejected for settings that make no sense."""
    from driftloop_settings.loading import load_settings
    from driftloop_settings.run_state import resolve_ports

    control = resolve_ports(load_settings(sets, state_dir=home))[0].control
    address = f"http://{control.host}:{control.port}/"
    say("watch it in the console: ", (address, "bold"), " (it answers within seconds)")


def make_room(home: Path) -> None:
    """Empty the folder of an earlier demo. Raises Conflict for any other non-empty folder."""
    from driftloop_settings.run_state import read_run_state

    mark = home / "demo.json"
    running = read_run_state(home)
    if running is not None and running.supervisor.alive():
        raise Conflict(f"a stack is running under {home}; stop it with `driftloop down` first")
    if home.exists() and any(home.iterdir()):
        if not mark.is_file():
            raise Conflict(f"{home} is not empty and not from a demo; name another --state-dir")
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    mark.write_text("{}")


def read_status(control: str) -> Record:
    """Return the status document, retrying for five minutes while the API is unavailable."""
    deadline = time.monotonic() + 300.0
    while True:
        try:
            with own_client(timeout=30.0) as http:
                response = http.get(f"{control}/api/status").raise_for_status()
            document: Record = response.json()
            return document
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
