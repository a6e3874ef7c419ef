"""Rows in any form as columns: pandas and polars frames, arrow tables, dicts, lists of dicts and
arrays. None of these libraries is imported."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected

Columns = dict[str, Any]


def columns_of(data: Any) -> Columns | NDArray[Any]:
    """Values by column, one for each row; an array as it is. Raises Rejected."""
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if hasattr(data, "column_names"):  # an arrow table
        return {str(name): data[name].to_pylist() for name in data.column_names}
    if hasattr(data, "columns"):
        return {str(name): data[name].to_numpy() for name in data.columns}
    if isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        return {str(name): [row.get(name) for row in data] for name in data[0]}
    raise Rejected(
        f"rows in a {type(data).__name__}: give a pandas or polars frame, an arrow table, a dict "
        "of columns, a list of dicts or a numpy array"
    )


def _of_mapping(data: Mapping[Any, Any]) -> Columns:
    """Columns; or one row, if no value is a list."""
    one_row = all(np.ndim(value) == 0 for value in data.values())
    return {str(name): [value] if one_row else value for name, value in data.items()}
