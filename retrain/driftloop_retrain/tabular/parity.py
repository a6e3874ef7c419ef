"""Compares the exported graph with the native model, row by row; a mismatch fails the retrain."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.graph_names import probabilities_of
from driftloop_retrain.tabular.evaluate import Outputs


class ParityBroken(DriftloopError):
    """The exported graph differs from its native model: the recipe must be fixed."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The agreement: rows compared, and the largest difference (relative for values above 1)."""

    rows: int
    largest_difference: float


def check_parity(
    features: pa.Table,
    native: Outputs,
    graph: Outputs,
    tolerance: float,
    tied: NDArray[np.bool_] | None = None,
) -> Parity:
    """Compare outputs for n rows. Classes may differ in rows that are tied; None: those whose
    probabilities are within the tolerance of a tie. Raises ParityBroken naming the output, the
    first differing row and its values."""
    largest = 0.0
    if tied is None:
        tied = tied_rows(native, tolerance)
    for name, ours in native.items():
        if name not in graph:
            raise ParityBroken(f"the graph has no output {name!r}; it has {sorted(graph)}")
        theirs = graph[name]
        if ours.shape != theirs.shape:
            raise ParityBroken(
                f"output {name!r}: {theirs.shape} from the graph, {ours.shape} natively"
            )
        if ours.dtype.kind == "f":
            difference = _difference(ours, theirs)
            largest = max(largest, float(difference.max(initial=0.0)))
            wrong = difference > tolerance
        else:
            wrong = (ours != theirs).reshape(len(ours), -1).any(axis=1) & ~tied
        if wrong.any():
            row = int(np.argmax(wrong))
            values = {column: features[column][row].as_py() for column in features.column_names}
            raise ParityBroken(
                f"output {name!r} differs in row {row}: {theirs[row]} from the graph, {ours[row]} "
                f"natively; {int(wrong.sum())} of {len(wrong)} rows differ; the row's columns: "
                f"{values}"
            )
    return Parity(features.num_rows, largest)


def _difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return [n], the largest difference in each row, relative for values above 1. NaN only equals
    NaN."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    difference = np.abs(a - b) / np.maximum(1.0, np.abs(a))
    difference = np.where(np.isnan(a) & np.isnan(b), 0.0, difference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    return np.asarray(difference.reshape(len(a), -1).max(axis=1, initial=0.0))


def tied_rows(outputs: Outputs, tolerance: float) -> NDArray[np.bool_]:
    """[n]: the rows whose two likeliest classes are within the tolerance of each other."""
    rows = len(next(iter(outputs.values())))
    probabilities = probabilities_of(outputs)
    if probabilities is None or probabilities.shape[1] < 2:
        return np.zeros(rows, dtype=bool)
    best = np.sort(probabilities.astype(np.float64), axis=1)
    return np.asarray(best[:, -1] - best[:, -2] <= 2 * tolerance)
