"""Steps of scikit-learn that skl2onnx does not export as they are: refused with the way out, or
replaced.

A graph's texts have no missing value, so that a missing one travels as `""`; encoders that learned
None or NaN as a category learn that it is written so.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from onnx.helper import make_attribute

from driftloop_export.port import NotExportable


def nested(model: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The model and all fitted steps in it, each with its path, such as `prepare.texts`."""
    from sklearn.base import BaseEstimator

    if not isinstance(model, BaseEstimator):
        return
    yield path or type(model).__name__, model
    for name, step in _steps(model):
        if isinstance(step, BaseEstimator):
            yield from nested(step, f"{path}.{name}" if path else str(name))


def _steps(model: Any) -> Iterator[tuple[str, Any]]:
    for attribute in ("steps", "transformers_", "transformer_list"):
        if hasattr(model, attribute):
            yield from ((item[0], item[1]) for item in getattr(model, attribute))
            return
    for name, value in list(vars(model).items()):
        if not name.endswith("_"):
            continue
        many = value if isinstance(value, list | tuple) else [value]
        yield from ((name, item) for item in many)


def check_steps(model: Any) -> None:
    """Raises NotExportable for a step whose export is known to be wrong or impossible."""
    for path, step in nested(model):
        kind = type(step).__name__
        if kind == "FunctionTransformer" and step.func is not None:
            name = getattr(step.func, "__name__", "a function")
            raise NotExportable(
                f"the step {path!r} is a FunctionTransformer over {name!r}, and a Python function "
                "has no form as a graph; compute it before the model, as a column of the sample, "
                "or use a transformer of scikit-learn that does the same"
            )
        if kind.startswith("HistGradientBoosting") and np.any(
            getattr(step, "is_categorical_", None)
        ):
            raise NotExportable(
                f"the step {path!r} uses `categorical_features`, whose export answers wrongly; "
                "train with OrdinalEncoder(handle_unknown='use_encoded_value', unknown_value=-1) "
                "before it, and categorical_features=None"
            )


def with_empty_texts(model: Any) -> Any:
    """A copy whose encoders know a missing text as `""`."""
    model = copy.deepcopy(model)
    for _, step in nested(model):
        categories = getattr(step, "categories_", None)
        if isinstance(categories, list):
            step.categories_ = [_empty(values) for values in categories]
        if type(step).__name__ == "SimpleImputer" and step.statistics_.dtype == object:
            step.missing_values = ""
    return model


def with_columns(model: Any, names: Mapping[str, str]) -> Any:
    """The model, whose steps pick their columns by these names, in place."""
    for _, step in nested(model):
        if hasattr(step, "transformers_"):
            step.transformers_ = [
                (name, own, _renamed(columns, names)) for name, own, columns in step.transformers_
            ]
    return model


def _renamed(columns: Any, names: Mapping[str, str]) -> Any:
    if isinstance(columns, str):
        return names.get(columns, columns)
    if isinstance(columns, slice) or not np.iterable(columns):
        return columns
    return [names.get(column, column) if isinstance(column, str) else column for column in columns]


def _empty(values: Any) -> Any:
    if values.dtype != object or all(isinstance(value, str) for value in values):
        return values
    if any(not isinstance(value, str) and value is not None and value == value for value in values):
        return values  # whole numbers or booleans as objects
    return np.array([v if isinstance(v, str) else "" for v in values], dtype=object)


LOCALE = "C.UTF-8"
"""That of lower case in TF-IDF: on every Linux, and it knows all of Unicode. ONNX Runtime's own is
en_US, which images of servers lack."""


def with_locale(model: Any) -> Any:
    """An ONNX model whose texts are normalised in LOCALE, in place."""
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, make_attribute("locale", LOCALE)])
    return model


def complete_options() -> None:
    """skl2onnx asks the last step of each pipeline for maps or none, and LinearSVC's converter
    does not know the question."""
    from skl2onnx.common._registration import get_converter, register_converter

    name = "SklearnLinearSVC"
    found = get_converter(name)
    known = found.get_allowed_options() or {}
    if "zipmap" not in known:
        options = {**known, "zipmap": [True, False]}
        register_converter(name, found._fct, overwrite=True, options=options)


def CONVERSIONS() -> dict[type, Callable[..., None]]:  # noqa: N802
    """Our converters in place of skl2onnx's, which lose precision or missing values."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OrdinalEncoder

    return {SimpleImputer: _imputer, OrdinalEncoder: _ordinal}


def SHAPES() -> dict[type, Callable[..., None]]:  # noqa: N802
    """The types of the outputs of CONVERSIONS, for skl2onnx."""
    from sklearn.impute import SimpleImputer

    return {SimpleImputer: _imputed_shape}


def _imputed_shape(operator: Any) -> None:
    """The type that comes in: skl2onnx takes all numbers for float32."""
    first = operator.inputs[0].type
    width = len(operator.raw_operator.statistics_)
    operator.outputs[0].type = type(first)([first.shape[0], width])


def _imputer(scope: Any, operator: Any, container: Any) -> None:
    """Numbers: in the type that they come in, whatever it is."""
    from skl2onnx.common.data_types import StringTensorType
    from skl2onnx.operator_converters.imputer_op import convert_sklearn_imputer

    step = operator.raw_operator
    texts = isinstance(operator.inputs[0].type, StringTensorType)
    if texts or step.add_indicator or not _is_nan(step.missing_values):
        if step.add_indicator:
            raise RuntimeError("SimpleImputer(add_indicator=True) is not supported: drop it")
        convert_sklearn_imputer(scope, operator, container)
        return
    statistics = np.asarray(step.statistics_, np.float64)
    if np.isnan(statistics).any():
        raise RuntimeError("SimpleImputer dropped a column that had no value at all: drop it too")
    source = _side_by_side(scope, operator, container)
    kind, dtype = _kind(operator)
    fill, missing = (scope.get_unique_variable_name(name) for name in ("fill", "missing"))
    container.add_initializer(fill, kind, [1, len(statistics)], statistics.astype(dtype))
    container.add_node("IsNaN", [source], [missing], op_version=13)
    container.add_node(
        "Where", [missing, fill, source], [operator.outputs[0].full_name], op_version=16
    )


def _ordinal(scope: Any, operator: Any, container: Any) -> None:
    """A column of texts after the other, by its categories; unknown and missing ones as told."""
    from skl2onnx.common.data_types import StringTensorType
    from skl2onnx.operator_converters.ordinal_encoder import convert_sklearn_ordinal_encoder

    step = operator.raw_operator
    texts = all(isinstance(item.type, StringTensorType) for item in operator.inputs)
    if not texts or getattr(step, "_infrequent_enabled", False):
        convert_sklearn_ordinal_encoder(scope, operator, container)
        return
    source = _side_by_side(scope, operator, container)
    unknown = step.unknown_value if step.handle_unknown == "use_encoded_value" else -1
    kind, _ = _kind(operator.outputs)
    columns = []
    for number, categories in enumerate(step.categories_):
        index, column, code = (
            scope.get_unique_variable_name(name) for name in ("index", "column", "code")
        )
        container.add_initializer(index, 7, [1], [number])
        container.add_node("Gather", [source, index], [column], axis=1, op_version=13)
        values = [float(i) for i in range(len(categories))]
        if "" in categories and number in step._missing_indices:
            values[step._missing_indices[number]] = float(step.encoded_missing_value)
        container.add_node(
            "LabelEncoder",
            [column],
            [code],
            op_domain="ai.onnx.ml",
            op_version=2,
            keys_strings=[str(category) for category in categories],
            values_floats=values,
            default_float=float(unknown),
        )
        columns.append(code)
    joined = scope.get_unique_variable_name("codes")
    container.add_node("Concat", columns, [joined], axis=1, op_version=13)
    container.add_node("Cast", [joined], [operator.outputs[0].full_name], to=kind, op_version=13)


def _side_by_side(scope: Any, operator: Any, container: Any) -> str:
    if len(operator.inputs) == 1:
        return str(operator.inputs[0].full_name)
    name = str(scope.get_unique_variable_name("columns"))
    sources = [item.full_name for item in operator.inputs]
    container.add_node("Concat", sources, [name], axis=1, op_version=13)
    return name


def _kind(operator: Any) -> tuple[int, Any]:
    """ONNX's element type of numbers, and numpy's."""
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType

    first = operator[0] if isinstance(operator, list) else operator.inputs[0]
    if isinstance(first.type, DoubleTensorType):
        return 11, np.float64
    if isinstance(first.type, Int64TensorType):
        return 7, np.int64
    return 1, np.float32


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))
