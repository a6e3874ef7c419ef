"""Converts raw columns to one float matrix, identically in Python and as the first nodes of a
graph.

Numbers and booleans are cast to float32 (NaN if missing). A text becomes the position of its
category, or −1 if it did not occur in training. A tensor [-1, k] of numbers gives k columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import TensorSpec
from driftloop_retrain.tabular.columns import numbers
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.features.computing import computed, feature_nodes
from driftloop_retrain.tabular.features.feature import Feature
from driftloop_retrain.tabular.features.fitting import fit_features, out_of_fold, targets_of
from driftloop_retrain.tabular.recipes.port import FitContext

RAW = "raw_input_"
MAX_CATEGORIES = 1_000
"""The number of most frequent categories that are kept; rarer texts count as unknown."""


@dataclass(frozen=True, slots=True)
class EncodedInput:
    """One input. `categories`: for BYTES, in the order of their codes; otherwise empty."""

    tensor: TensorSpec
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return (self.tensor.row_shape or (1,))[0]


@dataclass(frozen=True, slots=True)
class Encoding:
    """The inputs in the matrix's order. features: behind them, made of them."""

    inputs: tuple[EncodedInput, ...]
    features: tuple[Feature, ...] = ()

    @property
    def width(self) -> int:
        return sum(i.width for i in self.inputs) + sum(f.width for f in self.features)

    @property
    def categorical(self) -> dict[int, int]:
        """The number of categories by matrix column, for texts."""
        found, column = {}, 0
        for item in self.inputs:
            if item.tensor.datatype == "BYTES":
                found[column] = len(item.categories)
            column += item.width
        return found

    def matrix(self, features: pa.Table) -> NDArray[np.float32]:
        """Return the matrix, [n, width] float32."""
        parts = [_encoded(item, features[item.tensor.name]) for item in self.inputs]
        return np.concatenate([*parts, *self.made(features)], axis=1)

    def made(self, features: pa.Table) -> list[NDArray[np.float32]]:
        """The matrix [n, width] of the features, by the nodes of the graph; none: no features."""
        if not self.features:
            return []
        tensors = [item.tensor for item in self.inputs]
        return [computed(self.features, tensors, features)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.tensor.name for item in self.inputs)

    def nodes(self, output: str) -> list[Any]:
        """Return ONNX nodes from the inputs, and `RAW` with their numbers, to the matrix named
        `output`."""
        from onnx import TensorProto, helper

        nodes, parts = [], []
        for number, item in enumerate(self.inputs):
            name, part = f"{RAW}{number}", f"encoded_{number}"
            if item.tensor.datatype == "BYTES":
                nodes.append(
                    helper.make_node(
                        "LabelEncoder",
                        [name],
                        [part],
                        domain="ai.onnx.ml",
                        keys_strings=list(item.categories) or [""],
                        default_float=-1.0,
                        values_floats=[float(i) for i in range(len(item.categories))] or [-1.0],
                    )
                )
            else:
                nodes.append(helper.make_node("Cast", [name], [part], to=TensorProto.FLOAT))
            if item.tensor.row_shape == ():
                nodes.append(helper.make_node("Reshape", [part, "column"], [part + "_column"]))
                part += "_column"
            parts.append(part)
        if self.features:
            made, columns = feature_nodes(
                self.features, {n: f"{RAW}{i}" for i, n in enumerate(self.names)}
            )
            nodes += made
            parts += columns
        if any(item.tensor.row_shape == () for item in self.inputs):
            shape = helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1])
            nodes.insert(0, helper.make_node("Constant", [], ["column"], value=shape))
        return [*nodes, helper.make_node("Concat", parts, [output], axis=1)]


def fit_encoding(features: pa.Table, inputs: Sequence[TensorSpec]) -> Encoding:
    """Fit the encoding of these inputs to the categories in `features`. Raises Rejected if an input
    is not a column of numbers or texts."""
    return Encoding(tuple(_fit(tensor, features[tensor.name]) for tensor in inputs))


def fit_rows(train: Dataset, context: FitContext) -> tuple[Encoding, NDArray[np.float32]]:
    """Fit the encoding, with the context's features, to training rows; return it and their
    matrix, in which features of the label are out of fold. Raises Rejected as `fit_encoding`, or if
    a feature does not fit its input."""
    plain = fit_encoding(train.features, context.inputs)
    if not context.features:
        return plain, plain.matrix(train.features)
    targets = targets_of(train.labels, context.classes)
    found = fit_features(context.features, train.features, context.inputs, targets)
    encoding = Encoding(plain.inputs, found)
    (made,) = encoding.made(train.features)
    made = out_of_fold(found, train.features, targets, made, context.seed)
    return encoding, np.concatenate([plain.matrix(train.features), made], axis=1)


def _fit(tensor: TensorSpec, column: pa.ChunkedArray) -> EncodedInput:
    shape = tensor.row_shape
    if shape is None or len(shape) > 1 or any(size < 1 for size in shape):
        raise Rejected(
            f"input {tensor.name!r} has the shape {tensor.to_dict()['shape']}: no table's column"
        )
    if tensor.datatype != "BYTES":
        return EncodedInput(tensor)
    if not tensor.scalar:
        raise Rejected(f"input {tensor.name!r}: a row must hold one text, not a list")
    if column.null_count == len(column):
        return EncodedInput(tensor)  # dropped by capture: any text in a request is unknown
    counts = pc.fill_null(column, "").value_counts().to_pylist()
    counts.sort(key=lambda item: (-item["counts"], item["values"]))
    return EncodedInput(tensor, tuple(sorted(item["values"] for item in counts[:MAX_CATEGORIES])))


def _encoded(item: EncodedInput, column: pa.ChunkedArray) -> NDArray[np.float32]:
    if item.tensor.datatype == "BYTES":
        known = pa.array(item.categories, pa.string())
        codes = pc.index_in(pc.fill_null(column, ""), value_set=known)
        values = pc.fill_null(codes, -1).to_numpy()
    else:
        values = numbers(column)
    return np.asarray(values, np.float32).reshape(-1, item.width)
