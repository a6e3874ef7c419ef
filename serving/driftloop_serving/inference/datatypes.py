"""The datatypes of the Open Inference Protocol v2 in numpy, `struct` and JSON."""

from dataclasses import dataclass
from typing import Any

import numpy as np

_TEXT, _FLAG, _WHOLE = frozenset({str}), frozenset({bool}), frozenset({int})
_NUMBER = frozenset({int, float})


@dataclass(frozen=True, slots=True)
class Kind:
    """Representations of one datatype.

    code: the format character of `struct`. itemsize: bytes per element in a raw buffer, 0 for
    BYTES, whose elements vary. json_types: the Python types that orjson returns for an element.
    words: the same for error messages. nullable: whether null, the protocol's missing value, is
    accepted (as NaN).
    """

    dtype: np.dtype[Any]
    code: str
    itemsize: int
    json_types: frozenset[type]
    words: str
    text: bool = False
    nullable: bool = False


KINDS: dict[str, Kind] = {
    "BOOL": Kind(np.dtype(np.bool_), "?", 1, _FLAG, "true or false"),
    "UINT8": Kind(np.dtype(np.uint8), "B", 1, _WHOLE, "whole numbers"),
    "UINT16": Kind(np.dtype(np.uint16), "H", 2, _WHOLE, "whole numbers"),
    "UINT32": Kind(np.dtype(np.uint32), "I", 4, _WHOLE, "whole numbers"),
    "UINT64": Kind(np.dtype(np.uint64), "Q", 8, _WHOLE, "whole numbers"),
    "INT8": Kind(np.dtype(np.int8), "b", 1, _WHOLE, "whole numbers"),
    "INT16": Kind(np.dtype(np.int16), "h", 2, _WHOLE, "whole numbers"),
    "INT32": Kind(np.dtype(np.int32), "i", 4, _WHOLE, "whole numbers"),
    "INT64": Kind(np.dtype(np.int64), "q", 8, _WHOLE, "whole numbers"),
    "FP16": Kind(np.dtype(np.float16), "e", 2, _NUMBER, "numbers or null", nullable=True),
    "FP32": Kind(np.dtype(np.float32), "f", 4, _NUMBER, "numbers or null", nullable=True),
    "FP64": Kind(np.dtype(np.float64), "d", 8, _NUMBER, "numbers or null", nullable=True),
    "BYTES": Kind(np.dtype(np.object_), "", 0, _TEXT, "texts", text=True),
}

DTYPES: dict[str, Any] = {name: kind.dtype.type for name, kind in KINDS.items()}
