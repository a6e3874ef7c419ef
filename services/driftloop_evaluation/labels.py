"""Labels as they compare with outputs: by number, or by the name of a class.

A class has a name: a text is its own name; a number or a boolean is named as JSON writes it (`1`,
`1.5`, `true`), and a whole number has one name with and without its `.0`. So the output "1" is the
class that the labels "1", 1 and 1.0 name, and "007" is not.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LABEL, LABEL_NUMBER = "label", "label_number"
"""Columns of labelled rows: the label as JSON text, and as a number (`true` is 1, a text null)."""

_WHOLE = r"^(-?(?:0|[1-9][0-9]*))\.0$"


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of n rows. `numbers` [n]: NaN for none and for texts. `names`: a function, for
    reading JSON takes time and only text outputs need it; it returns class names [n], null for
    none."""

    numbers: Floats
    names: Callable[[], pa.Array]

    @classmethod
    def of_rows(cls, rows: pa.Table, key: str | None = None) -> "Labels":
        """From labelled rows of the lake, or of a reference. key: which of them, if labels are
        mappings, such as {"approve": 1, "amount": 310}; other labels then count as none."""
        if key is None:
            return cls(floats(rows[LABEL_NUMBER]), lambda: label_names(rows[LABEL]))
        found = [_under(key, text) for text in rows[LABEL].to_pylist()]
        numbers = [float(v) if isinstance(v, bool | int | float) else np.nan for v in found]
        texts = pa.array([None if v is None else json.dumps(v) for v in found], pa.string())
        return cls(np.array(numbers, dtype=np.float64), lambda: label_names(texts))

    @classmethod
    def of_values(cls, values: NDArray[np.generic]) -> "Labels":
        """From an array [n] of numbers, booleans or texts (as objects)."""
        column = pa.array(values)
        numbers = np.full(len(values), np.nan) if is_text(column.type) else floats(column)
        return cls(numbers, lambda: class_names(column))


def arrived(rows: pa.Table, keys: Sequence[str] | None) -> NDArray[np.bool_]:
    """Whether each of n rows of the lake has all labels that its model is judged by: a label, or if
    labels are mappings, a value for each of their `keys` (`ModelSpec.awaited`). null is one: it
    says that there is none. None: rows are judged without labels."""
    if keys is None:
        return np.ones(rows.num_rows, bool)
    if not keys:
        return np.asarray(rows[LABEL].is_valid().to_numpy(), dtype=bool)
    known = _array(rows[LABEL]).dictionary_encode()
    whole = [_has(keys, text) for text in known.dictionary.to_pylist()]
    found = pc.fill_null(pa.array(whole, pa.bool_()).take(known.indices), False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def _has(keys: Sequence[str], text: str) -> bool:
    value = json.loads(text)
    return isinstance(value, dict) and all(key in value for key in keys)


def label_names(texts: Any) -> pa.Array:
    """Class names of labels that are JSON texts: a column [n] to an array [n], null for none."""
    known = _array(texts).dictionary_encode()
    names = [_label_name(text) for text in known.dictionary.to_pylist()]
    return class_names(pa.array(names, pa.string()).take(known.indices))


def _under(key: str, text: str | None) -> Any:
    value = None if text is None else json.loads(text)
    return value.get(key) if isinstance(value, dict) else None


def _label_name(text: str) -> str | None:
    value = json.loads(text)
    if value is None or isinstance(value, dict):
        return None
    return value if isinstance(value, str) else text


def class_names(values: Any) -> pa.Array:
    """Class names of a column of texts, numbers or booleans [n]; null for null."""
    texts = pc.cast(_array(values), pa.string())
    return pc.replace_substring_regex(texts, _WHOLE, r"\1")


def is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def floats(column: Any) -> Floats:
    """A column of numbers or booleans as float64 [n]; NaN for null."""
    cast = pc.cast(_array(column), pa.float64(), safe=False)
    return np.asarray(cast.to_numpy(zero_copy_only=False), dtype=np.float64)


def _array(column: Any) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.dictionary_decode() if pa.types.is_dictionary(whole.type) else whole
