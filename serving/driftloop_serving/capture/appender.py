"""The append operation of `SpoolWriter`, as a base class that can be replaced by compiled code.

An append usually finds its code and data evicted from the CPU caches. In Python it takes a tenth of
the time of a whole request; compiled, and without a system call, a thirtieth (ADR 18). This module
works without a compiler; if `_appender.pyx` was compiled, that is used instead.
"""

import contextlib
import mmap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from driftloop_serving.capture.spool_record import PredictionBatch, PredictionEncoder

COMPILED = False


class Source:
    """The counters of one key: the predictions of a version, or labels.

    served: the slot of its counter. encoder: encodes its records. sequence: the sequence number of
    its next request.
    """

    __slots__ = ("encoder", "key", "sequence", "served")

    def __init__(self, key: str, served: int) -> None:
        self.key = key
        self.served = served
        self.encoder: PredictionEncoder | None = None
        self.sequence = 0


class Appender:
    """The state of an append: the number of the current segment, the size at which it is full, the
    end of its last record, the limit of its memory map (if mapped), the sources by model and
    version, and the counters."""

    _segment: int
    _segment_bytes: int
    _size: int
    _map: mmap.mmap | None
    _limit: int
    _sources: dict[tuple[str, int], Source]
    _counters: memoryview

    def append(self, batches: Sequence[PredictionBatch]) -> bool:
        """Write the answered requests of some runs, all or none, with the current time. False if
        they were dropped, and counted as such."""
        return self.append_slowly(batches)

    def append_slowly(self, batches: Sequence[PredictionBatch]) -> bool:
        raise NotImplementedError

    def _let_go(self) -> None:
        """Release the memory of the map and the counters, so that they can be closed."""


def keeps_room(file: int) -> bool:  # noqa: ARG001
    """Whether the file system guarantees space that was allocated for a file, as those that write
    in place do (ext2 to ext4, XFS, tmpfs). On others, writing to a map on a full disk ends the
    process by a signal."""
    return False


if not TYPE_CHECKING:
    with contextlib.suppress(ImportError):
        from driftloop_serving.capture._appender import COMPILED, Appender, Source, keeps_room  # noqa: F401
