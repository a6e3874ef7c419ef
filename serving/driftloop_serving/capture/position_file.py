"""The acknowledged position of a spool and the counts up to it, in one file.

The writer of the spool creates the file at full size, so that the shipper can make progress on a
full disk; its progress frees space. Format: `<acked u64>`, then two slots, written alternately:
`<generation u64><length u32><crc32c u32><JSON>`. If a write is interrupted, the other slot is
valid, so position and counts always match. `acked` is for the writer, which may wait for it.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Any

import crc32c
import orjson

from driftloop_serving.capture.stats_page import SLOTS

NAME = "position"
PAGE_BYTES = 4096
SLOT_BYTES = SLOTS * 64
FILE_BYTES = PAGE_BYTES + 2 * SLOT_BYTES

_ACKED = struct.Struct("<Q")
_HEAD = struct.Struct("<QII")


def make(folder: Path) -> None:
    (folder / NAME).write_bytes(bytes(FILE_BYTES))


class PositionFile:
    """The shipper's view of the file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._generation = 0

    def read(self) -> dict[str, Any] | None:
        """Return the newest complete document; None if there is none."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        found = None
        for start in (PAGE_BYTES, PAGE_BYTES + SLOT_BYTES):
            if len(data) < start + _HEAD.size:
                continue
            generation, length, checksum = _HEAD.unpack_from(data, start)
            document = data[start + _HEAD.size : start + _HEAD.size + length]
            if generation > self._generation and crc32c.crc32c(document) == checksum:
                self._generation, found = generation, orjson.loads(document)
        return found

    def write(self, document: dict[str, Any], acked: int) -> None:
        """Raises FileNotFoundError if the folder is gone."""
        data = orjson.dumps(document)
        head = _HEAD.pack(self._generation + 1, len(data), crc32c.crc32c(data))
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            slot = PAGE_BYTES + (self._generation + 1) % 2 * SLOT_BYTES
            os.pwrite(file, head + data, slot)
            os.pwrite(file, _ACKED.pack(acked), 0)
        finally:
            os.close(file)
        self._generation += 1


class AckedPosition:
    """The writer's view: `value` is the position (`spool.position`) up to which Kafka has all
    records."""

    def __init__(self, folder: Path) -> None:
        with (folder / NAME).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), PAGE_BYTES, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        self._number = self._view[:8].cast("Q")

    @property
    def value(self) -> int:
        return self._number[0]

    def close(self) -> None:
        self._number.release()
        self._view.release()
        self._map.close()
