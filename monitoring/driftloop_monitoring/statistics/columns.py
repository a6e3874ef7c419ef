"""Columns of a window or a reference, as numbers or categories."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Kind = Literal["number", "category"]

MAX_ELEMENTS = 16
"""The most elements of a list column that are compared individually."""
FEW_VALUES = 10
"""Numbers with at most this many distinct values are compared as categories."""


@dataclass(frozen=True)
class Column:
    """`values`: float64 with NaN, or objects (str) with None, for missing values. What is derived
    of them is kept, because a reference is compared with every window."""

    name: str
    kind: Kind
    values: NDArray[Any]

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        if self.kind == "number":
            return np.asarray(np.isnan(self.values), dtype=np.bool_)
        return np.array([v is None or v == "" for v in self.values], dtype=np.bool_)

    @property
    def present(self) -> NDArray[Any]:
        return self.values[~self.missing]

    @cached_property
    def finite(self) -> NDArray[Any]:
        """The values that are neither missing nor infinite; numbers in ascending order."""
        if self.kind == "category":
            return self.present
        return np.sort(self.values[np.isfinite(self.values)])

    @cached_property
    def tally(self) -> Mapping[str, int]:
        """How often each finite value is there, by its text, in the order of texts."""
        if self.kind == "category":
            return dict(sorted(Counter(self.finite.tolist()).items()))
        found: Counter[str] = Counter()
        values, counts = np.unique(self.finite, return_counts=True)
        for value, count in zip(values, counts, strict=True):
            found[_text(value)] += int(count)
        return dict(sorted(found.items()))

    @cached_property
    def few(self) -> bool:
        """Whether these are numbers, and more than one but at most FEW_VALUES distinct ones."""
        if self.kind == "category":
            return False
        return 0 < int(np.count_nonzero(np.diff(self.finite))) < FEW_VALUES

    @property
    def rows(self) -> int:
        return len(self.values)

    def as_categories(self) -> "Column":
        """Return the same rows with each number as text, for numbers with few distinct values."""
        if self.kind == "category":
            return self
        values, codes = np.unique(self.values, return_inverse=True)
        texts = [None if np.isnan(v) else _text(v) for v in values]
        return Column(self.name, "category", np.array(texts, dtype=object)[codes])


def _text(value: float) -> str:
    return f"{value:g}"


def columns_of(table: pa.Table, prefix: str) -> dict[str, Column]:
    """Return the columns whose names start with `prefix` (`in_`, `out_`), without the prefix.

    A list column of equal lengths becomes `name[0]`, `name[1]`, … up to MAX_ELEMENTS, with another
    `_` where a column has that name. Of a pair of probabilities only the second is used.
    """
    found: dict[str, Column] = {}
    names = [n.removeprefix(prefix) for n in table.column_names if n.startswith(prefix)]
    for short in names:
        array = table[prefix + short].combine_chunks()
        if pa.types.is_list(array.type):
            found.update({c.name: c for c in _elements(short, array, names)})
        else:
            found[short] = column(short, array)
    return found


def column(name: str, array: Any) -> Column:
    """Convert a pyarrow array: numbers stay numbers, booleans and texts become categories."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = pc.cast(array, pa.string()).dictionary_encode()
        # None is the last, for rows without a value; equal texts are one object.
        names = np.array([*texts.dictionary.to_pylist(), None], dtype=object)
        codes = texts.indices.fill_null(len(names) - 1).to_numpy()
        return Column(name, "category", names[codes])
    numbers = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return Column(name, "number", np.asarray(numbers, dtype=np.float64))


def _elements(name: str, array: Any, taken: Sequence[str]) -> list[Column]:
    lengths = pc.unique(pc.drop_null(pc.list_value_length(array))).to_pylist()
    if len(lengths) != 1 or not 0 < lengths[0] <= MAX_ELEMENTS:
        return []
    places: Sequence[int] = range(1, 2) if lengths[0] == 2 else range(lengths[0])
    while any(f"{name}[{i}]" in taken for i in places):
        name += "_"
    return [column(f"{name}[{i}]", pc.list_element(array, i)) for i in places]


def in_both(
    reference: Mapping[str, Column], window: Mapping[str, Column]
) -> list[tuple[Column, Column]]:
    """Return pairs of the columns that both have, in the reference's order."""
    return [(r, window[name]) for name, r in reference.items() if name in window]
