"""The rows that a model is exported with: what its inputs are called, their types, and what both
the model and its graph are asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.graph_names import check_feature_names
from driftloop_contracts.signature import Datatype, TensorSpec, check_width

OUTPUTS = 2
"""The most that an exported graph has."""
_DATATYPES: tuple[tuple[pa.DataType, Datatype, type], ...] = (
    (pa.bool_(), "BOOL", np.bool_), (pa.string(), "BYTES", np.object_),
    (pa.float32(), "FP32", np.float32), (pa.float64(), "FP64", np.float64),
    (pa.int8(), "INT8", np.int8), (pa.int16(), "INT16", np.int16),
    (pa.int32(), "INT32", np.int32), (pa.int64(), "INT64", np.int64),
    (pa.uint8(), "UINT8", np.uint8), (pa.uint16(), "UINT16", np.uint16),
    (pa.uint32(), "UINT32", np.uint32), (pa.uint64(), "UINT64", np.uint64),
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """n rows. `table`: one column for each input, null where a value is missing. `given`: the
    frame that the user gave, or None if it was another form."""

    table: pa.Table
    given: Any = None

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        return list(self.table.column_names)

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """One tensor a column: [-1, 1], or [-1, k] for a column of lists."""
        return tuple(_tensor(field.name, self.table[field.name]) for field in self.table.schema)

    @property
    def has_texts(self) -> bool:
        return any(tensor.datatype == "BYTES" for tensor in self.inputs)

    @cached_property
    def frame(self) -> Any:
        """As a data frame: the user's own, or a pandas one."""
        if self.given is None:
            return self.table.to_pandas()
        return self.given[self.columns]

    @cached_property
    def pandas(self) -> Any:
        """As a pandas frame, with the user's own dtypes if it was one."""
        return self.frame if hasattr(self.frame, "iloc") else self.table.to_pandas()

    def select(self, columns: Sequence[str]) -> "Sample":
        """The same rows with these columns. Raises Rejected if one is missing."""
        _check_columns(self.columns, columns, others=True)
        return Sample(self.table.select(list(columns)), self.given)

    def feeds(self) -> dict[str, NDArray[np.generic]]:
        """What the graph is given: arrays in the shape and type of each input. A missing text is
        `""`, a missing number NaN."""
        dtypes = {datatype: dtype for _, datatype, dtype in _DATATYPES}
        found: dict[str, NDArray[np.generic]] = {}
        for tensor in self.inputs:
            column = self.table[tensor.name].combine_chunks()
            if tensor.datatype == "BYTES":
                values = np.array(pc.fill_null(column, "").to_pylist(), dtype=object)
            else:
                flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
                values = np.asarray(flat.to_numpy(zero_copy_only=False))
            found[tensor.name] = np.ascontiguousarray(
                values.astype(dtypes[tensor.datatype]).reshape(-1, *(tensor.row_shape or ()))
            )
        return found

    def matrix(self) -> NDArray[Any]:
        """[n, k]: all columns beside each other, in the type that numpy finds for them."""
        return np.concatenate(list(self.feeds().values()), axis=1)


def sample_of(data: Any, wanted: Sequence[str] | None) -> Sample:
    """From a pandas or polars frame, an arrow table or a dict of arrays. `wanted`: the columns that
    the model was trained on, in its order; None: it does not say. Raises Rejected."""
    table, given = _arrow(data)
    if not table.num_rows:
        raise Rejected("the sample has no rows: give some that the model can answer")
    check_feature_names(table.column_names)
    if wanted is not None:
        _check_columns(table.column_names, wanted)
        table = table.select(list(wanted))
    if not table.num_columns:
        raise Rejected("the sample has no columns")
    check_width(table.num_columns + OUTPUTS)
    columns = {name: _column(name, table[name]) for name in table.column_names}
    return Sample(pa.table(columns), given)


def _arrow(data: Any) -> tuple[pa.Table, Any]:
    if isinstance(data, pa.Table | pa.RecordBatch):
        return (pa.table(data) if isinstance(data, pa.RecordBatch) else data), None
    if isinstance(data, Mapping):
        return _from_arrays(data), None
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        _check_names(data.columns)
        columns = {name: _from_values(name, data[name]) for name in data.columns}
        return pa.table(columns), data
    if hasattr(data, "to_arrow") and hasattr(data, "columns"):
        return data.to_arrow(), data
    raise Rejected(
        f"the sample is a {type(data).__name__}; give a pandas or polars frame, an arrow table or "
        "a dict of arrays: the columns' names become those of the model's inputs"
    )


def _from_arrays(data: Mapping[str, Any]) -> pa.Table:
    _check_names(data)
    columns = {}
    for name, values in data.items():
        array = np.asarray(values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim == 2:
            columns[name] = pa.array(list(array), pa.list_(pa.from_numpy_dtype(array.dtype)))
        elif array.ndim == 1:
            columns[name] = _from_values(name, values if array.dtype.kind in "OU" else array)
        else:
            raise Rejected(f"column {name!r} of the sample has {array.ndim} dimensions, not 1 or 2")
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise Rejected(f"the sample's columns differ in length: {sorted(lengths)}")
    return pa.table(columns)


def _from_values(name: str, values: Any) -> pa.Array:
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        raise Rejected(
            f"column {name!r} of the sample holds values of several types: make it all numbers or "
            "all texts"
        ) from None
    if pa.types.is_floating(found.type) and found.null_count:
        return pc.fill_null(found, float("nan"))
    return found


def _check_names(names: Any) -> None:
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise Rejected(
            f"the sample's column {wrong!r} has no text as its name, and inputs are named by "
            "columns: rename the columns"
        )


def _check_columns(given: Sequence[str], wanted: Sequence[str], others: bool = False) -> None:
    """others: whether there may be more than those that are wanted."""
    if missing := [name for name in wanted if name not in given]:
        raise Rejected(
            f"the model was trained on {listed(map(repr, missing))}, which the sample lacks; it "
            f"has {listed(given)}"
        )
    if not others and (more := [name for name in given if name not in wanted]):
        raise Rejected(
            f"the model was not trained on {listed(map(repr, more))}: drop that from the sample"
        )


def _column(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that a tensor has."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column(name, column.cast(kind.value_type))
    if pa.types.is_null(kind):
        return column.cast(pa.float64())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if is_list or pa.types.is_fixed_size_list(kind):
        return _lists(name, column)
    # A whole number or boolean that may be missing travels as a float, which has NaN for that.
    numeric = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind)
    if pa.types.is_decimal(kind) or (numeric and column.null_count):
        if pa.types.is_boolean(kind):
            column = column.cast(pa.uint8())
        return pc.fill_null(column.cast(pa.float64(), safe=False), float("nan"))
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if not any(kind == known for known, *_ in _DATATYPES):
        raise Rejected(
            f"column {name!r} of the sample is {kind}, which no tensor holds: make it numbers or "
            "texts before the model (a time, for example, as seconds or as its parts)"
        )
    return pc.fill_null(column, float("nan")) if pa.types.is_floating(kind) else column


def _lists(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    element = column.type.value_type
    if not (pa.types.is_floating(element) or pa.types.is_integer(element)) or column.null_count:
        raise Rejected(f"column {name!r} of the sample is {column.type}: lists must be of numbers")
    sizes = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(sizes) != 1 or not sizes[0]:
        raise Rejected(f"column {name!r} of the sample holds lists of {len(sizes)} lengths, not 1")
    return column.cast(pa.list_(pa.float32() if pa.types.is_float16(element) else element))


def _tensor(name: str, column: pa.ChunkedArray) -> TensorSpec:
    datatypes = {kind: datatype for kind, datatype, _ in _DATATYPES}
    if pa.types.is_list(column.type):
        return TensorSpec(name, datatypes[column.type.value_type], (-1, len(column[0])))
    return TensorSpec(name, datatypes[column.type], (-1, 1))
