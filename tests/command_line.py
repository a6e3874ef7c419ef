"""The command as a person types it, and looking at a stack until it is as wanted."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FREE_PORTS = ("serving.port=0", "serving.grpc_port=0", "control.port=0", "kafka.port=0")


@dataclass(frozen=True)
class Driftloop:
    """Runs `driftloop … --json` against one state directory; `environ`: default this process's."""

    state_dir: Path
    environ: Mapping[str, str] | None = None

    def __call__(self, *words: str, check: bool = True, timeout: float = 180) -> Any:
        argv = [sys.executable, "-m", "driftloop_cli", *words, "--state-dir", str(self.state_dir)]
        done = subprocess.run(
            [*argv, "--json"],
            env=self.environ,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


def eventually(
    read: Callable[[], Any], wanted: Callable[[Any], bool], timeout_s: float = 60
) -> Any:
    """Read until the value is as wanted; the last value's mismatch is the failure."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = read()
        if wanted(value):
            return value
        assert time.monotonic() < deadline, value
        threading.Event().wait(0.2)  # the stack runs by itself: all we can do is look again
