"""Finds the files of a Delta table's log that are no longer needed. Pure.

Reading version V needs the newest checkpoint up to V and the commits after it. When no version
before a checkpoint is needed any more, all log files of those versions can be deleted, except
checkpoints at pinned versions.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

_COMMIT, _CHECKPOINT = ".json", ".checkpoint.parquet"
_NAME = re.compile(r"(\d{20})(\..+)")


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of the log. `at`: when it was last written."""

    name: str
    at: datetime


def horizon(files: Iterable[LogFile], before: datetime) -> int:
    """Return the newest version with a checkpoint that was committed before the given time; 0 if
    there is none."""
    versions = {_version(f.name): f for f in files if f.name.endswith(_COMMIT)}
    checkpoints = {_version(f.name) for f in files if f.name.endswith(_CHECKPOINT)}
    old = [v for v in checkpoints if v is not None and v in versions and versions[v].at < before]
    return max(old, default=0)


def to_checkpoint(files: Iterable[LogFile], pinned: Iterable[int], horizon: int) -> list[int]:
    """Return the pinned versions before the horizon that have no checkpoint but can still be
    read."""
    names = {file.name for file in files}
    return sorted(
        version
        for version in set(pinned)
        if version < horizon
        and f"{version:020}{_CHECKPOINT}" not in names
        and f"{version:020}{_COMMIT}" in names
    )


def expired(files: Iterable[LogFile], pinned: Collection[int], horizon: int) -> list[str]:
    """Return the names of the files that can be deleted, oldest first, so that the table stays
    readable if the deletion is interrupted."""
    found: list[str] = []
    for file in files:
        version = _version(file.name)
        if version is not None and version < horizon and version not in pinned:
            found.append(file.name)
    return sorted(found)


def _version(name: str) -> int | None:
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None
