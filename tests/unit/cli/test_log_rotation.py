"""Logs are kept small while their writers go on, and are read across the rotation."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driftloop_cli.log_files import LogFile
from driftloop_cli.log_rotation import EVERY_S, LogRotation, older

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Writer:
    """Holds its file open, as a role does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._rotation = LogRotation(path.parent, limit_bytes=500, kept=2)
        self.written: list[str] = []
        self._time_s = 0.0

    def write(self, count: int) -> None:
        for _ in range(count):
            self.written.append(f"event-{len(self.written)}")
            at = NOW + timedelta(seconds=len(self.written))
            line = {"event": self.written[-1], "timestamp": at.isoformat(), "level": "info"}
            os.write(self._file, json.dumps(line).encode() + b"\n")

    def rotate(self) -> None:
        self._time_s += EVERY_S
        self._rotation.look(self._time_s)

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = Writer(tmp_path / "monitor.log")
    yield opened
    opened.close()


def names(file: LogFile, last_bytes: int | None = None) -> list[str]:
    return [event.event for event in file.read(last_bytes)]


def test_a_log_is_rotated_at_its_limit_and_few_old_files_stay(writer: Writer) -> None:
    writer.write(2)
    writer.rotate()
    assert older(writer.path) == []
    for _ in range(4):
        writer.write(10)
        writer.rotate()
        assert writer.path.stat().st_size == 0
    assert [path.name for path in older(writer.path)] == ["monitor.log.2", "monitor.log.1"]
    writer.write(3)
    assert names(LogFile("monitor", writer.path)) == writer.written[22:]
    newest = names(LogFile("monitor", writer.path), last_bytes=600)
    assert newest == writer.written[-len(newest) :]
    assert 3 < len(newest) < 13


def test_a_follower_misses_nothing_that_was_rotated(writer: Writer) -> None:
    file = LogFile("monitor", writer.path)
    writer.write(10)
    seen = names(file)
    writer.write(4)
    writer.rotate()
    writer.write(2)
    assert seen + names(file) == writer.written
    assert names(file) == []


def test_a_log_that_can_not_be_copied_stays_as_it_is(writer: Writer) -> None:
    writer.write(20)
    size = writer.path.stat().st_size
    (writer.path.parent / "monitor.log.tmp" / "monitor.log").mkdir(parents=True)
    writer.rotate()
    assert writer.path.stat().st_size == size
