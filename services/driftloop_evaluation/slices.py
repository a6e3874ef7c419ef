"""Parts of the rows that are judged one by one: each value of a column, or a named condition."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.conditions import (
    Condition,
    Mask,
    column_of_input,
    literal,
    parse_condition,
    quoted,
)

MAX_VALUES = 20


@dataclass(frozen=True, slots=True)
class Slice:
    """name: for people; condition: which rows are in it."""

    name: str
    condition: Condition

    def holds(self, rows: pa.Table) -> Mask:
        """See `Condition.holds`."""
        return self.condition.holds(rows)

    @classmethod
    def of(cls, name: str, text: str) -> "Slice":
        return cls(name, parse_condition(text))


@dataclass(frozen=True, slots=True)
class Slices:
    """What a spec's `slices` are among some rows. small: names of those with too few rows, and how
    many they have."""

    found: tuple[Slice, ...]
    small: tuple[tuple[str, int], ...] = ()


def slices_of(spec: ModelSpec, rows: pa.Table, min_rows: int) -> Slices:
    """Of rows with `in_<column>`: named conditions, and for each column that is named its values
    (the MAX_VALUES most frequent); numbers with more values are cut at their quartiles. Raises
    Rejected for a column that the rows lack."""
    found: list[Slice] = []
    small: list[tuple[str, int]] = []
    for part in spec.slices:
        for one in _slices(part, rows):
            count = int(one.holds(rows).sum())
            if count >= min_rows:
                found.append(one)
            else:
                small.append((one.name, count))
    return Slices(tuple(found), tuple(small))


def slice_columns(spec: ModelSpec) -> tuple[str, ...]:
    """The input columns that a spec's slices name. Raises Rejected for a condition that does not
    parse."""
    found: list[str] = []
    for part in spec.slices:
        if isinstance(part, str):
            found.append(part)
        else:
            found += (c for text in part.values() for c in parse_condition(text).columns)
    return tuple(dict.fromkeys(found))


def _slices(part: str | dict[str, str], rows: pa.Table) -> Iterable[Slice]:
    if isinstance(part, dict):
        return [Slice.of(name, text) for name, text in part.items()]
    column, name = column_of_input(rows, part), quoted(part)
    values = np.asarray(column.to_pandas())
    distinct = np.unique(values.astype(str))
    if len(distinct) > MAX_VALUES and values.dtype.kind in "fiu":
        bounds = np.unique(np.nanquantile(values.astype(float), [0.25, 0.5, 0.75])).tolist()
        ends = [None, *bounds, None]
        return [_between(part, a, b) for a, b in pairwise(ends)]
    frequent = column.drop_null().value_counts().to_pylist()
    frequent = sorted(frequent, key=lambda pair: -pair["counts"])[:MAX_VALUES]
    own = [
        Slice.of(f"{part}={pair['values']}", f"{name} = {literal(pair['values'])}")
        for pair in frequent
    ]
    return [*own, Slice.of(f"{part} missing", f"{name} is null")] if column.null_count else own


def _between(column: str, low: float | None, high: float | None) -> Slice:
    """(low, high]; a missing number is with the highest."""
    name, tests = quoted(column), []
    if low is not None:
        tests.append(f"{name} > {low!r}")
    if high is not None:
        tests.append(f"{name} <= {high!r}")
    else:
        tests = [" and ".join(tests), f"{name} is null"]
    text = (" or " if high is None else " and ").join(tests)
    a, b = ("-inf" if low is None else f"{low:g}"), ("inf" if high is None else f"{high:g}")
    return Slice.of(f"{column}∈({a}, {b}]", text)
