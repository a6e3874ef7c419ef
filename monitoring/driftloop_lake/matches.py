"""Counts the labels that have a row in a table of predictions, file by file.

A file never changes, and its labels can only be in label files with overlapping ids. As long as
those are the same, so is its count. Counting therefore only costs the changes since the last count.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from driftloop_lake.lake_table import Extent, LakeTable, quoted, translated

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
        key: Sequence[str],
        labels_of: Callable[[pa.Table, pa.Table], int],
    ) -> int:
        """Return the number of distinct labels, by `key`, whose row is in the table. A prediction
        in two files counts for each. `labels_of`: counts the distinct labels that have a row in a
        table of (prediction_id, row). Raises RetryLater."""
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
                told = labels.scan(key, _between(extent)) if near else None
                known = _Counted(near, 0)
                if told is not None and told.num_rows:
                    with translated():
                        rows = fragment.to_table(columns=[_ID, "row"])
                    known = _Counted(near, labels_of(rows, told))
            counted[fragment.path] = known
        self._counted = counted
        return sum(each.labels for each in counted.values())


def _between(extent: Extent) -> str | None:
    if extent.least is None or extent.most is None:
        return None
    return f"{_ID} >= {quoted(extent.least)} AND {_ID} <= {quoted(extent.most)}"
