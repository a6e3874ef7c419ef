"""The log files of a state directory, read from their ends: they may be large."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from driftloop_cli.log_events import LogEvent, events, merged, require_role
from driftloop_cli.log_rotation import older
from driftloop_contracts.errors import Unavailable

LAST_BYTES = 16 << 20
"""Of each log, this much of its end is read if nobody asks for more."""


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
    """Reads a role's log on from where it stopped, with the older files of a rotation."""

    role: str
    path: Path
    position: int | None = None
    last_at: datetime | None = None

    def read(self, last_bytes: int | None = LAST_BYTES) -> list[LogEvent]:
        """The events of the complete lines since the last call; at first, of the log's end, or all
        of it (None)."""
        try:
            size = self.path.stat().st_size
            content, cut = self._content(size, last_bytes)
        except FileNotFoundError:
            return []
        end = content.rfind(b"\n") + 1
        self.position = max(0, size - (len(content) - end))
        lines = content[:end].decode("utf-8", "backslashreplace").split("\n")
        found = list(events(lines[1:] if cut else lines, self.role, self.last_at))
        if found:
            self.last_at = found[-1].at
        return found

    def _content(self, size: int, last_bytes: int | None) -> tuple[bytes, bool]:
        """What is new up to `size` of the file, and whether its first line is cut."""
        if self.position is not None and size >= self.position:
            return _part(self.path, self.position, size), False
        if self.position is not None:  # it was rotated: the copy has the rest
            last = older(self.path)[-1:]
            kept = [_part(path, self.position) for path in last]
            return b"".join([*kept, _part(self.path, 0, size)]), False
        parts: list[bytes] = []
        left = last_bytes
        for path in [self.path, *reversed(older(self.path))]:
            length = size if path == self.path else path.stat().st_size
            start = 0 if left is None else max(0, length - left)
            parts.insert(0, _part(path, start, length))
            if start:
                return b"".join(parts), True
            left = None if left is None else left - length
        return b"".join(parts), False


def _part(path: Path, start: int, end: int | None = None) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(-1 if end is None else end - start)


class Logs:
    """The logs of some roles, merged by time. keep: which events are wanted. last_bytes: of each
    log, what is read at first; None: all."""

    def __init__(
        self,
        files: dict[str, Path],
        keep: Callable[[LogEvent], bool],
        last_bytes: int | None = LAST_BYTES,
    ) -> None:
        self._files = [LogFile(role, path) for role, path in files.items()]
        self._keep = keep
        self._last_bytes = last_bytes

    def read(self) -> list[LogEvent]:
        """Those since the last call; at first, those at the ends of the logs."""
        found = (event for file in self._files for event in file.read(self._last_bytes))
        return merged(event for event in found if self._keep(event))

    def follow(self, wait: Callable[[], bool]) -> Iterator[LogEvent]:
        """Those to come; wait: pauses between two looks, and returns whether to look again."""
        while wait():
            yield from self.read()
