"""Counts the labels that have a row in a table of predictions, file by file.

A file never changes, and its labels can only be in label files with overlapping ids. As long as
those are the same, so is its count. Counting therefore only costs the changes since the last count.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pyarrow as pa

from driftloop_lake.lake_table import Extent, LakeTable, translated

_ID = "prediction_id"


class _Counted(NamedTuple):
    label_files: frozenset[str]
    labels: int


class Matches:
    """The counts of one table of predictions. Not thread-safe."""

    def __init__(self) -> None:
        self._counted: Mapping[str, _Counted] = {}

    def count(
        self,
        table: LakeTable,
        labels: LakeTable,
        matched: Callable[[pa.Table], int],
    ) -> int:
        """Return the number of labels whose row is in the table. A prediction in two files counts
        for each. matched: counts those of a table of (prediction_id, row). Raises RetryLater."""
        extents = {extent.path: extent for extent in table.extents(_ID)}
        label_files = labels.extents(_ID)
        with translated():
            fragments = list(table.dataset().get_fragments())
        counted: dict[str, _Counted] = {}
        for fragment in fragments:
            extent = extents.get(fragment.path, Extent(fragment.path, None, None))
            near = frozenset(each.path for each in label_files if each.overlaps(extent))
            known = self._counted.get(fragment.path)
            if known is None or known.label_files != near:
                known = _Counted(near, 0)
                if near:
                    with translated():
                        rows = fragment.to_table(columns=[_ID, "row"])
                    known = _Counted(near, matched(rows))
            counted[fragment.path] = known
        self._counted = counted
        return sum(each.labels for each in counted.values())
