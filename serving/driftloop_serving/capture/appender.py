"""The part of `SpoolWriter` that is compiled if there is a C compiler: the append of a usual run to
a mapped segment.

By the time of an append its code and data are cold, so that one in Python is a tenth of what a
request alone takes; compiled, without a call of the kernel, it is a thirtieth (ADR 18). This module
works without a compiler, and `_appender.pyx` takes its place.
"""

import contextlib
import mmap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from driftloop_serving.capture.spool_record import PredictionBatch, PredictionEncoder

COMPILED = False


class Source:
    """What is counted under one key: a version's predictions, or labels. `served`: its counter's
    slot; `encoder`: of its records; `sequence`: of its next request."""

    __slots__ = ("encoder", "key", "sequence", "served")

    def __init__(self, key: str, served: int) -> None:
        self.key = key
        self.served = served
        self.encoder: PredictionEncoder | None = None
        self.sequence = 0


class Appender:
    """What an append needs: the number of the segment that is written, from where on it is full,
    where its last record ends, and, if it is mapped, up to where the map may be filled; the
    sources, by model and version; the counters."""

    _segment: int
    _segment_bytes: int
    _size: int
    _map: mmap.mmap | None
    _limit: int
    _sources: dict[tuple[str, int], Source]
    _counters: memoryview

    def append(self, batches: Sequence[PredictionBatch]) -> bool:
        """Keep the answered requests of some runs, all or none; False if they were dropped and
        counted. Their time is now."""
        return self.append_slowly(batches)

    def append_slowly(self, batches: Sequence[PredictionBatch]) -> bool:
        raise NotImplementedError

    def _let_go(self) -> None:
        """Of the map's and the counters' memory, which can then be closed."""


def keeps_room(file: int) -> bool:  # noqa: ARG001
    """Whether the file system keeps room that was once allocated for a file, as those do that write
    in place (ext2 to 4, XFS, tmpfs): only there does a full disk raise no signal that ends the
    process."""
    return False


if not TYPE_CHECKING:
    with contextlib.suppress(ImportError):
        from driftloop_serving.capture._appender import COMPILED, Appender, Source, keeps_room  # noqa: F401
