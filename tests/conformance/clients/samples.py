"""Two rows of two values for each datatype, at the ends of its range."""

import numpy as np

WHOLE = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
FLOATING = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}

SAMPLES: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False], [False, True]]),
    **{
        name.upper(): np.array([[np.iinfo(name).min, np.iinfo(name).max], [0, 1]], name)
        for name in WHOLE
    },
    **{
        name: np.array([[np.finfo(kind).min, np.finfo(kind).max], [0.1, -0.5]], kind)
        for name, kind in FLOATING.items()
    },
    "BYTES": np.array([["", "grün €"], ['a"b\\', "two\nlines"]], np.object_),
}


def same(datatype: str, found: np.ndarray) -> bool:
    """Whether an answer of the identity is what was sent, bit for bit."""
    wanted = SAMPLES[datatype]
    if datatype == "BYTES":
        texts = [v.decode() if isinstance(v, bytes) else v for v in found.ravel()]
        return found.shape == wanted.shape and texts == wanted.ravel().tolist()
    return found.dtype == wanted.dtype and np.array_equal(found, wanted)
