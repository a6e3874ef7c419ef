"""Keeps the label files read last, sorted by prediction.

Labels of all models are in the same files. Who judges hundreds of models in turn would read each
file once for each of them; here it is read once, and looked up by the ids of their predictions.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.events import LABEL_SCHEMA
from driftloop_lake.lake_table import Extent, LakeTable, translated

LIMIT_BYTES = 256 << 20
"""Three million labels."""
_ID = "prediction_id"
_REST = [field for field in LABEL_SCHEMA if field.name != _ID]
_TEXTS = {field.name for field in _REST if pa.types.is_string(field.type)}


class _Sorted(NamedTuple):
    """rows: without ids, and with texts as dictionaries, for half of the memory."""

    ids: NDArray[np.bytes_]
    rows: pa.Table
    nbytes: int

    def of(self, wanted: NDArray[np.bytes_]) -> pa.Table:
        if not len(self.ids):
            return LABEL_SCHEMA.empty_table()
        # Ids sort by time, as files do: most of those wanted are in other files.
        start, end = np.searchsorted(wanted, self.ids[[0, -1]])
        wanted = wanted[start : end + 1]
        first, last = (np.searchsorted(self.ids, wanted, side) for side in ("left", "right"))
        counts = last - first
        places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        rows = self.rows.take(places)
        ids = pa.array(self.ids[places], pa.binary()).cast(pa.string())
        return rows.add_column(0, _ID, ids).cast(LABEL_SCHEMA)


class LabelFiles:
    """Not thread-safe. limit_bytes: of all that is kept."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._kept: dict[str, _Sorted] = {}
        """By path; a file never changes. The one used last is the last."""
        self._extents: tuple[tuple[str, int], list[Extent]] | None = None

    def of(self, labels: LakeTable, ids: pa.ChunkedArray) -> pa.Table:
        """Return the labels of these predictions, of all metrics. Raises RetryLater."""
        wanted = np.unique(_bytes(ids))
        least, most = (each.decode() for each in (wanted[0], wanted[-1]))
        near = [x.path for x in self._all(labels) if x.overlaps(Extent("", least, most))]
        unread = _fragments(labels, {path for path in near if path not in self._kept})
        found = [LABEL_SCHEMA.empty_table()]
        for path in near:
            file = self._kept.pop(path) if path in self._kept else _read(unread[path])
            found.append(file.of(wanted))
            self._keep(path, file, near)
        return pa.concat_tables(found)

    def _all(self, labels: LakeTable) -> list[Extent]:
        version = labels.id, labels.version
        if self._extents is None or self._extents[0] != version:
            self._extents = version, labels.extents(_ID)
        return self._extents[1]

    def _keep(self, path: str, file: _Sorted, near: Collection[str]) -> None:
        """In the place of files that are not near, if need be: of more than there is room for, the
        same ones stay, and the next model finds them."""
        room = self._limit - sum(kept.nbytes for kept in self._kept.values())
        for other in list(self._kept):
            if room >= file.nbytes:
                break
            if other not in near:
                room += self._kept.pop(other).nbytes
        if room >= file.nbytes:
            self._kept[path] = file


def _fragments(labels: LakeTable, paths: Collection[str]) -> Mapping[str, Any]:
    if not paths:
        return {}
    with translated():
        return {f.path: f for f in labels.dataset().get_fragments() if f.path in paths}


def _read(fragment: Any) -> _Sorted:
    with translated():
        rows = fragment.to_table(columns=LABEL_SCHEMA.names).cast(LABEL_SCHEMA)
    ids = _bytes(rows[_ID])
    order = np.argsort(ids, kind="stable")
    rows = rows.drop_columns([_ID]).take(order)
    for place, field in enumerate(_REST):
        if field.name in _TEXTS:
            rows = rows.set_column(place, field.name, rows[field.name].dictionary_encode())
    rows, ids = rows.combine_chunks(), ids[order]
    return _Sorted(ids, rows, int(ids.nbytes + rows.nbytes))


def _bytes(ids: pa.ChunkedArray) -> NDArray[np.bytes_]:
    """As UTF-8 of one length, which sorts as the texts do."""
    found: NDArray[np.bytes_] = ids.cast(pa.binary()).to_numpy().astype(np.bytes_)
    return found
