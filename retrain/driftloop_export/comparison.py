"""Does the graph answer every row of the sample as the native model does? If not: which rows, and
what they have in common."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_export.port import NotExportable, Outputs
from driftloop_export.sample import Sample

TOLERANCE = 1e-5
"""Of values and probabilities, relative to their size if that is above 1. Labels must be equal."""
SHOWN_ROWS = 5
MAX_CATEGORIES = 50
COVERED, WITHIN, ELSEWHERE = 0.9, 0.5, 0.1
"""A property is named as the cause if it holds for this share of the rows that differ, this share
of the rows with it differ, and at most that of the rows without."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many rows were compared, and the largest difference of a value among them."""

    rows: int
    largest_difference: float


class Differs(NotExportable):
    """The graph answers some rows of the sample otherwise than the native model."""


def compare(sample: Sample, native: Outputs, graph: Mapping[str, NDArray[Any]]) -> Agreement:
    """`graph`: outputs under the names of `native`. Raises Differs with the rows and the likely
    cause."""
    largest = 0.0
    wrong = np.zeros(sample.rows, dtype=bool)
    first = ""
    for name, ours in native.items():
        theirs = graph[name].reshape(ours.shape) if ours.size == graph[name].size else None
        if theirs is None:
            raise Differs(
                f"the graph's {name!r} has the shape {graph[name].shape}, the model's {ours.shape}"
            )
        if ours.dtype.kind == "f":
            difference = _difference(ours, theirs)
            largest = max(largest, float(difference.max(initial=0.0)))
            differs = ~(difference <= TOLERANCE)
        else:
            differs = np.asarray(ours != theirs)
        if differs.any() and not first:
            row = int(np.argmax(differs))
            first = (
                f"`{name}` of row {row} is {_value(theirs[row])}, and {_value(ours[row])} natively"
            )
        wrong |= differs
    if wrong.any():
        rows = ", ".join(str(row) for row in np.flatnonzero(wrong)[:SHOWN_ROWS])
        more = ", …" if wrong.sum() > SHOWN_ROWS else ""
        raise Differs(
            f"the exported graph answers {int(wrong.sum()):,} of {sample.rows:,} rows otherwise "
            f"than the model (rows {rows}{more}): {first}. {likely_cause(sample, wrong, largest)}"
        )
    return Agreement(sample.rows, largest)


def likely_cause(sample: Sample, wrong: NDArray[np.bool_], largest: float) -> str:
    """A sentence on what the rows that differ have in common."""
    for words, rows in _properties(sample):
        if not rows.any() or rows.all():
            continue
        covered, within = rows[wrong].mean() >= COVERED, wrong[rows].mean() >= WITHIN
        if covered and within and wrong[~rows].mean() <= ELSEWHERE:
            return f"Likely cause: these are the rows {words}."
    if wrong.mean() > COVERED:
        return "Likely cause: a step is exported in another way than it computes, for all rows."
    if largest < 1e-3:
        return (
            "Likely cause: rounding, because the graph computes in float32; round the columns or "
            "train on float32."
        )
    return (
        "Likely cause: a split or a bin boundary lies so near these rows' values that rounding "
        "moves them; leave out scalers and imputers before trees."
    )


def _properties(sample: Sample) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name in sample.columns:
        column = sample.table[name]
        missing = np.asarray(column.is_null(nan_is_null=True))
        yield f"without a value in `{name}`", missing
        if pa.types.is_string(column.type):
            values = np.array(column.to_pylist(), dtype=object)
            known = sorted({value for value in values.tolist() if value is not None})
            if len(known) <= MAX_CATEGORIES:
                yield from ((f"whose `{name}` is {value!r}", values == value) for value in known)


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
    """[n]: the largest of a row, relative to the value or to the usual value if that is above
    1: a sum of large terms may come near 0. NaN agrees with NaN only."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.abs(a[np.isfinite(a)])
    usual = float(np.median(finite)) if len(finite) else 0.0
    difference = np.abs(a - b) / np.maximum(max(1.0, usual), np.abs(a))
    difference = np.where((np.isnan(a) & np.isnan(b)) | (a == b), 0.0, difference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    return np.asarray(difference.reshape(len(a), -1).max(axis=1, initial=0.0))


def _value(value: Any) -> str:
    return np.array2string(np.asarray(value), precision=7, threshold=8)
