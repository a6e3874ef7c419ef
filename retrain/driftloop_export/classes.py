"""The classes of a classifier in the two types that a label has: whole numbers and texts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_export.port import NotExportable


def classes_from(values: Any) -> NDArray[np.generic]:
    """[k] int64, or str as objects. Raises NotExportable for classes of another type."""
    found = np.asarray(values).reshape(-1)
    if found.dtype.kind in "OUT":
        if all(isinstance(value, str) for value in found.tolist()):
            return np.array(found.tolist(), dtype=object)
    elif found.dtype.kind in "biu" or (
        found.dtype.kind == "f" and (found == np.floor(found)).all()
    ):
        return found.astype(np.int64)
    raise NotExportable(
        f"the model's classes are {found[:3].tolist()}…: make them texts or whole numbers"
    )
