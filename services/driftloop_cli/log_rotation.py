"""Keeps the log files of a state directory small.

A role and the programs that it starts write to one open file, so the file cannot be replaced: it
is copied to `NAME.log.1` and emptied. What is written in between, for microseconds, is lost.
"""

import os
import shutil
from pathlib import Path

LIMIT_BYTES = 16 << 20
KEPT = 3
"""Older files of each log: `NAME.log.1` is the newest of them."""
EVERY_S = 10.0


class LogRotation:
    """Call `look` again and again; it looks at the files every `EVERY_S`."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES, kept: int = KEPT) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._kept = kept
        self._due_s = 0.0

    def look(self, now_s: float) -> None:
        """now_s: monotonic."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        for path in self._folder.glob("*.log"):
            try:
                if path.stat().st_size > self._limit_bytes:
                    self._rotate(path)
            except OSError as error:  # a full disk: the log stays as it is
                import structlog  # `driftloop logs` needs none

                structlog.get_logger().warning(
                    "logs.not_rotated", file=path.name, reason=str(error)
                )

    def _rotate(self, path: Path) -> None:
        scratch = path.with_name(f"{path.name}.tmp")
        shutil.copy(path, scratch)  # with its mode
        for number in range(self._kept - 1, 0, -1):
            if rotated(path, number).exists():
                rotated(path, number).replace(rotated(path, number + 1))
        scratch.replace(rotated(path, 1))
        with path.open("rb") as file, rotated(path, 1).open("ab") as copy:
            file.seek(copy.tell())
            shutil.copyfileobj(file, copy)  # what came while it was copied
            os.truncate(path, 0)


def rotated(path: Path, number: int) -> Path:
    """The older file of a log; 1 is the newest."""
    return path.with_name(f"{path.name}.{number}")


def older(path: Path) -> list[Path]:
    """Those that there are, oldest first."""
    found: list[Path] = []
    while (next_one := rotated(path, len(found) + 1)).is_file():
        found.append(next_one)
    return found[::-1]
