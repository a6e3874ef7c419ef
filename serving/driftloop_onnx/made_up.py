"""Synthetic inputs, to run a graph before its first request."""

import numpy as np

from driftloop_contracts.signature import Signature, TensorSpec

FREE_DIMENSION = 16
"""The size of free dimensions other than the rows."""

Arrays = dict[str, np.ndarray]


def made_up(signature: Signature, rows: int) -> Arrays:
    """Return inputs that fit a signature, the same for each call; `rows` is used if the first
    dimension is free."""
    dice = np.random.default_rng(0)
    return {t.name: _made_up(t, rows, dice) for t in signature.inputs}


def _made_up(tensor: TensorSpec, rows: int, dice: np.random.Generator) -> np.ndarray:
    wanted = (-1,) if tensor.shape is None else tensor.shape
    sizes = (rows if place == 0 else FREE_DIMENSION for place in range(len(wanted)))
    shape = tuple(size if free == -1 else free for free, size in zip(wanted, sizes, strict=True))
    if tensor.datatype == "BYTES":
        return np.array(dice.choice(["a", "b"], shape), object)
    if tensor.datatype.startswith("FP"):
        return dice.normal(size=shape).astype(f"f{int(tensor.datatype[2:]) // 8}")
    # Integers are mostly indices, and every table has the indices 0 and 1.
    return dice.integers(0, 2, shape).astype(tensor.datatype.lower())
