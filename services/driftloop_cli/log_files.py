"""The log files of a state directory, read from their ends: they may be large."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from driftloop_cli.log_events import LogEvent, events, merged, require_role
from driftloop_contracts.errors import Unavailable

LAST_BYTES = 16 << 20
"""Of each file, at most this much of its end is read."""


def log_files(state_dir: Path, role: str | None = None) -> dict[str, Path]:
    """By role, or only that of one. Raises Unavailable if there are none, Rejected if the role has
    none."""
    found = {path.stem: path for path in sorted((state_dir / "logs").glob("*.log"))}
    if not found:
        raise Unavailable(f"there are no logs under {state_dir}: `driftloop up` writes them")
    if role is None:
        return found
    require_role(role, found)
    return {role: found[role]}


@dataclass
class LogFile:
    """Reads a role's file on from where it stopped; from its start if it is another file by now, or
    was cut."""

    role: str
    path: Path
    position: int | None = None
    last_at: datetime | None = None

    def read(self, last_bytes: int = LAST_BYTES) -> list[LogEvent]:
        """The events of the complete lines since the last call; at first, of the file's end."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                cut = self.position is None and size > last_bytes
                start = max(0, size - last_bytes) if self.position is None else self.position
                start = 0 if start > size else start
                file.seek(start)
                content = file.read(size - start)
        except FileNotFoundError:
            return []
        end = content.rfind(b"\n") + 1
        self.position = start + end
        lines = content[:end].decode("utf-8", "backslashreplace").split("\n")
        found = list(events(lines[1:] if cut else lines, self.role, self.last_at))
        if found:
            self.last_at = found[-1].at
        return found


class Logs:
    """The logs of some roles, merged by time. keep: which events are wanted."""

    def __init__(self, files: dict[str, Path], keep: Callable[[LogEvent], bool]) -> None:
        self._files = [LogFile(role, path) for role, path in files.items()]
        self._keep = keep

    def read(self) -> list[LogEvent]:
        """Those since the last call; at first, those at the ends of the files."""
        return merged(event for file in self._files for event in file.read() if self._keep(event))

    def follow(self, wait: Callable[[], bool]) -> Iterator[LogEvent]:
        """Those to come; wait: pauses between two looks, and returns whether to look again."""
        while wait():
            yield from self.read()
