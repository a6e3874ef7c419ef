"""Small summaries of a window's columns beside the reference's, kept with the window so that charts
read no row again.

Of numbers: the 5th, 50th and 95th percentile; of categories: the shares of the frequent ones of the
reference. Of both: the share of missing values, and how far the distribution moved (total
variation: the share of rows that would have to change to get the reference's back), over the
reference's deciles or those categories.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_monitoring.statistics.columns import Column, Kind

MOST_COLUMNS = 64
"""Of a window: those that moved most."""
PERCENTILES = (5.0, 50.0, 95.0)
DECILES = tuple(range(10, 100, 10))
MOST_CATEGORIES = 6
MIN_SHARE = 0.01
"""Rarer values are not named: they could tell who somebody is."""
MOST_CHARS = 40

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReferenceSketch:
    """edges: the deciles of numbers. names: the frequent categories. shares: of the cells between
    the edges, or of the names and of the rest, and of missing values: their sum is 1."""

    kind: Kind
    shares: Floats
    shown: tuple[float | None, ...]
    edges: Floats | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, column: Column) -> "ReferenceSketch":
        values = column.finite
        names: tuple[str, ...] = ()
        edges: Floats | None = None
        shown: tuple[float | None, ...] = ()
        if column.kind == "category":
            names = _frequent(column)
        else:
            edges = np.unique(np.percentile(values, DECILES)) if len(values) else np.empty(0)
            shown = _percentiles(values)
        sketch = cls(column.kind, np.empty(0), shown, edges, names)
        shares = sketch.shares_of(column)
        if column.kind == "category":
            shown = tuple(map(_rounded, shares[: len(names)]))
        return cls(column.kind, shares, shown, edges, names)

    def shares_of(self, column: Column) -> Floats:
        values = column.finite
        if self.edges is not None:
            cells = np.searchsorted(self.edges, values, side="left")
            counts = np.bincount(cells, minlength=len(self.edges) + 1)
        else:
            named = np.array([column.tally.get(name, 0) for name in self.names], dtype=int)
            counts = np.append(named, len(values) - named.sum())
        counts = np.append(counts, column.rows - len(values))
        return np.asarray(counts / max(1, column.rows), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        names = [name[:MOST_CHARS] for name in self.names]
        return {"kind": self.kind, "names": names, "shown": list(self.shown)}


def reference_sketches(columns: Mapping[str, Column]) -> dict[str, ReferenceSketch]:
    """Numbers with few distinct values, such as classes, become categories, as in the test of
    drift."""
    return {
        name: ReferenceSketch.of(column.as_categories() if column.few else column)
        for name, column in columns.items()
    }


def window_sketch(
    reference: Mapping[str, ReferenceSketch], window: Mapping[str, Column]
) -> dict[str, list[float | None]]:
    """column → [how far it moved, the share of missing values, and what is shown of it: the
    percentiles, or the shares of the reference's names]; those that moved most."""
    found = {}
    for name, known in reference.items():
        column = window.get(name)
        if column is None or not column.rows:
            continue
        if known.kind == "category":
            column = column.as_categories()
        elif column.kind != known.kind:
            continue
        shares = known.shares_of(column)
        moved = 0.5 * float(np.abs(shares - known.shares).sum())
        if known.kind == "number":
            shown = _percentiles(column.finite)
        else:
            shown = tuple(map(_rounded, shares[: len(known.names)]))
        found[name] = [_rounded(moved), _rounded(float(shares[-1])), *shown]
    most = sorted(found, key=lambda name: (-(found[name][0] or 0.0), name))[:MOST_COLUMNS]
    return {name: found[name] for name in most}


def _percentiles(values: NDArray[Any]) -> tuple[float | None, ...]:
    if not len(values):
        return (None,) * len(PERCENTILES)
    return tuple(_rounded(float(v)) for v in np.percentile(values, PERCENTILES))


def _frequent(column: Column) -> tuple[str, ...]:
    tally = column.tally
    names = sorted(tally, key=lambda name: -tally[name])[:MOST_CATEGORIES]
    return tuple(name for name in names if tally[name] >= MIN_SHARE * column.rows)


def _rounded(value: float) -> float:
    """To four significant digits."""
    return float(f"{value:.4g}")
