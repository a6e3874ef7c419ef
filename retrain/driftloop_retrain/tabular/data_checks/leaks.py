"""Columns that know the label, or the future."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MIN_ROWS = 50
"""With fewer rows a column may agree with the label by chance."""
PERFECT = 1.0 - 1e-9
"""Of a correlation: the column is the label in another unit."""
SPARE_VALUES = 4
"""A column with this many times as many values as there are classes may agree by being fine."""
FUTURE_SHARE = 0.01
DAY_S = 86_400.0
EPOCHS = {"seconds": 1.0, "milliseconds": 1e3}
YEAR_2000_S, YEAR_2100_S = 946_684_800.0, 4_102_444_800.0


def leaking_column(features: pa.Table, labels: NDArray[np.generic]) -> str | None:
    """A sentence on the first column that equals the label or names it in other words; None if
    there is none."""
    if len(labels) < MIN_ROWS or len(np.unique(labels)) < 2:
        return None
    for name in features.column_names:
        if how := _same(features[name], labels):
            return f"column {name!r} {how} in all {len(labels):,} rows"
    return None


def _same(column: pa.ChunkedArray, labels: NDArray[np.generic]) -> str | None:
    numeric = labels.dtype.kind in "fiu"
    if numeric and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        values = np.asarray(column.to_numpy(), np.float64)
        wanted = labels.astype(np.float64)
        if np.isfinite(values).all() and values.std() > 0:
            if np.allclose(values, wanted, rtol=1e-6, atol=0.0):
                return "equals the label"
            if abs(np.corrcoef(values, wanted)[0, 1]) > PERFECT:
                return "is the label in another unit"
    return _renamed(column, labels)


def _renamed(column: pa.ChunkedArray, labels: NDArray[np.generic]) -> str | None:
    """Each value of a column with few values goes with one label only."""
    if pa.types.is_list(column.type):
        return None
    classes, codes = np.unique(labels, return_inverse=True)
    if labels.dtype.kind == "f" or len(classes) > len(labels) / MIN_ROWS:
        return None
    values = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    count = len(values.dictionary)
    if not len(classes) <= count <= SPARE_VALUES * len(classes):
        return None
    pairs = np.unique(np.stack([np.asarray(values.indices), codes]), axis=1)
    return "names the label in other words" if pairs.shape[1] == count else None


def future_columns(features: pa.Table, at: NDArray[np.datetime64]) -> list[str]:
    """A sentence on each number column that holds times later than the predictions. It may be a due
    date that was known: it is a warning."""
    found: list[str] = []
    asked_s = at.astype("datetime64[us]").astype(np.float64) / 1e6
    if not len(asked_s) or asked_s.min() < YEAR_2000_S:
        return found  # of a file without times
    for name in features.column_names:
        kind = features[name].type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            continue
        share = _share_later(np.asarray(features[name].to_numpy(), np.float64), asked_s)
        if share > FUTURE_SHARE:
            found.append(
                f"column {name!r} holds times after the prediction in {share:.1%} of the rows: is "
                "it known by then?"
            )
    return found


def _share_later(values: NDArray[Any], asked_s: NDArray[np.float64]) -> float:
    given = np.isfinite(values)
    for factor in EPOCHS.values():
        seconds = values / factor
        if given.any() and np.all((seconds[given] > YEAR_2000_S) & (seconds[given] < YEAR_2100_S)):
            return float((seconds[given] > asked_s[given] + DAY_S).mean())
    return 0.0
