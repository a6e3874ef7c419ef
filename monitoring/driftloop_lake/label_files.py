"""Keeps the label files read last, sorted by prediction.

Labels of all models are in the same files. Who judges hundreds of models in turn would read each
file once for each of them; here it is read once, and looked up by the ids of their predictions.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.events import LABEL_SCHEMA
from driftloop_lake.lake_table import Extent, LakeTable, translated

LIMIT_BYTES = 192 << 20
MOST_ROWS = 1_000_000
"""Of the files that may have the labels of some predictions. LIMIT_BYTES hold them (a row takes
130); more would be read anew each time, and are better left to a scan."""
_ID = "prediction_id"


class _Sorted(NamedTuple):
    ids: NDArray[np.bytes_]
    rows: pa.Table

    @property
    def nbytes(self) -> int:
        return int(self.ids.nbytes + self.rows.nbytes)


class LabelFiles:
    """Not thread-safe. limit_bytes: of all that is kept."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._kept: dict[str, _Sorted] = {}
        """By path; a file never changes. The one used last is the last."""
        self._extents: tuple[tuple[str, int], list[Extent]] | None = None

    def of(self, labels: LakeTable, ids: pa.ChunkedArray) -> pa.Table | None:
        """Return the labels of these predictions, of all metrics, and perhaps some of others; None
        if they are in too many rows to be kept. Raises RetryLater."""
        wanted = np.unique(_bytes(ids))
        least, most = (each.decode() for each in (wanted[0], wanted[-1]))
        near = [x for x in self._all(labels) if x.overlaps(Extent("", least, most))]
        if sum(extent.rows for extent in near) > MOST_ROWS:
            return None
        self._read(labels, [extent.path for extent in near if extent.path not in self._kept])
        found = [LABEL_SCHEMA.empty_table()]
        for extent in near:
            file = self._kept[extent.path] = self._kept.pop(extent.path)
            first, last = (np.searchsorted(file.ids, wanted, side) for side in ("left", "right"))
            some = np.flatnonzero(last > first)
            places = [np.arange(first[i], last[i]) for i in some]
            if places:
                found.append(file.rows.take(np.concatenate(places)))
        self._forget()
        return pa.concat_tables(found)

    def _all(self, labels: LakeTable) -> list[Extent]:
        version = labels.id, labels.version
        if self._extents is None or self._extents[0] != version:
            self._extents = version, labels.extents(_ID)
        return self._extents[1]

    def _read(self, labels: LakeTable, paths: list[str]) -> None:
        if not paths:
            return
        with translated():
            for fragment in labels.dataset().get_fragments():
                if fragment.path in paths:
                    rows = fragment.to_table(columns=LABEL_SCHEMA.names).cast(LABEL_SCHEMA)
                    ids = _bytes(rows[_ID])
                    order = np.argsort(ids, kind="stable")
                    self._kept[fragment.path] = _Sorted(ids[order], rows.take(order))

    def _forget(self) -> None:
        excess = sum(file.nbytes for file in self._kept.values()) - self._limit
        for path in list(self._kept):
            if excess <= 0:
                break
            excess -= self._kept.pop(path).nbytes


def _bytes(ids: pa.ChunkedArray) -> NDArray[np.bytes_]:
    """As UTF-8 of one length, which sorts as the texts do."""
    found: NDArray[np.bytes_] = ids.cast(pa.binary()).to_numpy().astype(np.bytes_)
    return found
