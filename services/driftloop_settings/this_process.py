"""The process of a role: the machine that it runs on, and the file by which it shows there that its
cycles end, for liveness probes of Kubernetes and other health checks."""

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from driftloop_settings.run_state import run_dir

if TYPE_CHECKING:
    from driftloop_settings import Settings

ALIVE = "alive"
"""The folder of these files in `run`: ALIVE/ROLE is touched at the start and after each cycle."""


@dataclass(frozen=True, slots=True)
class ThisProcess:
    """machine: the host's name and the state directory, as `host:/folder`; stacks that share a
    host differ in it."""

    machine: str
    folder: Path

    @classmethod
    def of(cls, settings: "Settings") -> "ThisProcess":
        state_dir = settings.state_dir.absolute()
        return cls(f"{socket.gethostname()}:{state_dir}", run_dir(state_dir) / ALIVE)

    def show_alive(self, role: str) -> None:
        """Touch the role's file. A disk that is full says nothing of the role."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / role).touch()
