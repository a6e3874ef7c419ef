"""scikit-learn: estimators and pipelines, by skl2onnx, with boosted trees as the last step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import compose

from driftloop_contracts.kind import Task
from driftloop_export.boosted import OPSETS, Boosted
from driftloop_export.classes import classes_from
from driftloop_export.graph import constant
from driftloop_export.port import MATRIX, Body, NotExportable, NotInstalled, Outputs
from driftloop_export.sample import Sample
from driftloop_export.sklearn_steps import (
    CONVERSIONS,
    SHAPES,
    check_steps,
    complete_options,
    nested,
    with_columns,
    with_empty_texts,
    with_locale,
)

TARGET = {"": 18, "ai.onnx.ml": 3}
_WRAPPERS = ("best_estimator_",)
"""Where a search keeps the model that it found."""


class ScikitLearn:
    """See Adapter. `boosters`: the adapters of last steps that skl2onnx does not know, by the
    package of their class."""

    def __init__(self, boosters: dict[str, Any]) -> None:
        self._boosters = boosters

    def columns(self, model: Any) -> Sequence[str] | None:
        return _columns(model)

    def answers(self, model: Any, sample: Sample, _task: Task | None) -> Outputs:
        from sklearn.base import is_classifier

        if isinstance(model, Column):
            return {"value": model.predict(rows_for(model, sample)).astype(np.float64)}
        check_fitted(model)
        rows = rows_for(model, sample)
        labels = np.asarray(model.predict(rows))
        if labels.ndim > 1 and labels.shape[1] > 1:
            raise NotExportable(
                f"the model answers {labels.shape[1]} labels for a row: name them, by labels with "
                "one column each, or by outputs=[…]"
            )
        if not is_classifier(model):
            return {"value": labels.reshape(-1).astype(np.float64)}
        classes = classes_from(model.classes_)
        found = {"label": classes_from(labels).astype(classes.dtype)}
        if hasattr(model, "predict_proba"):
            found["probabilities"] = np.asarray(model.predict_proba(rows))
        return found

    def bodies(self, model: Any, sample: Sample, answers: Outputs) -> Iterator[Body]:
        if isinstance(model, Column):
            yield from (_with_column(b, model.number) for b in self.bodies(model.model, sample, {}))
            return
        for attribute in _WRAPPERS:
            model = getattr(model, attribute, model)
        steps, booster = self._split(model)
        check_steps(steps if steps is not None else model)
        reasons: list[str] = []
        for precise in (True, False):
            try:
                if booster is None:
                    yield _converted(model, sample, answers, precise)
                else:
                    assert steps is not None
                    yield _joined(_converted(steps, sample, None, precise), booster)
            except NotExportable as error:
                reasons.append(str(error))
        if len(reasons) == 2:
            raise NotExportable(reasons[-1])

    def _split(self, model: Any) -> tuple[Any, Boosted | None]:
        """The steps before boosted trees, and the trees; or (None, None)."""
        last = model.steps[-1][1] if hasattr(model, "steps") else None
        package = type(last).__module__.partition(".")[0]
        if package not in self._boosters:
            return None, None
        steps = model[:-1]
        boosted = self._boosters[package].boosted(last, None)
        return steps, _from_sparse(boosted, steps) if package == "xgboost" else boosted


def _from_sparse(boosted: Boosted, steps: Any) -> Boosted:
    """XGBoost takes what a sparse matrix leaves out as missing, and that is each zero."""
    last = steps.steps[-1][1]
    sparse = getattr(last, "sparse_output_", getattr(last, "sparse_output", False))
    return replace(boosted, zero_is_missing=bool(sparse))


@dataclass(frozen=True)
class Column:
    """One output of a regressor that gives several values for a row."""

    model: Any
    number: int

    @property
    def feature_names_in_(self) -> Any:
        return self.model.feature_names_in_

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        del deep
        return {}

    def predict(self, rows: Any) -> Any:
        return np.asarray(self.model.predict(rows))[:, self.number]


def _with_column(body: Body, number: int) -> Body:
    from onnx import helper

    graph = body.model.graph
    (whole,) = (output.name for output in graph.output)
    graph.initializer.append(constant("our_column", np.int64(number)))
    graph.node.append(helper.make_node("Gather", [whole, "our_column"], ["our_value"], axis=1))
    return replace(body, outputs={"value": "our_value"})


def _columns(model: Any) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def rows_for(model: Any, sample: Sample) -> Any:
    """What a model's methods are called with."""
    # One column that texts are made of is given by its name alone.
    return _matrix(sample) if _columns(model) is None else sample.frame


def _matrix(sample: Sample) -> Any:
    return sample.matrix() if not sample.has_texts else sample.frame.to_numpy()


def check_fitted(model: Any) -> None:
    """Raises NotExportable."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError):
        raise NotExportable(f"the {type(model).__name__} is not fitted: call fit first") from None
    if not hasattr(model, "predict"):
        raise NotExportable(
            f"the {type(model).__name__} predicts nothing: export the whole pipeline, with the "
            "estimator as its last step"
        )


def _converted(model: Any, sample: Sample, answers: Outputs | None, precise: bool) -> Body:
    """`precise`: with all numbers as float64, as scikit-learn itself computes most; else float32,
    which more operators take. `answers` None: of steps that only transform."""
    try:
        import skl2onnx
    except ImportError:
        raise NotInstalled(
            "scikit-learn models are exported by skl2onnx: pip install skl2onnx"
        ) from None
    from skl2onnx.common.exceptions import (
        MissingConverter,
        MissingShapeCalculator,
    )

    complete_options()
    # skl2onnx changes names that hold other signs than letters.
    names = {name: f"column_{number}" for number, name in enumerate(sample.columns)}
    ready = with_columns(with_empty_texts(model), names)
    maps = answers is not None and "probabilities" in answers
    options = {id(ready): {"zipmap": False}} if maps else None
    try:
        graph = skl2onnx.convert_sklearn(
            ready,
            initial_types=_types(model, sample, precise, names),
            options=options,
            target_opset=TARGET,
            custom_conversion_functions=CONVERSIONS(),
            custom_shape_calculators=SHAPES(),
        )
    except (MissingConverter, MissingShapeCalculator) as error:
        raise NotExportable(_unknown_step(model, error)) from None
    except Exception as error:  # converters raise whatever they like
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise NotExportable(
            f"skl2onnx cannot convert the {type(model).__name__}: {reason[0]}"
        ) from error
    outputs = [output.name for output in with_locale(graph).graph.output]
    if answers is None:
        return Body(graph, {"features": outputs[0]}, renamed=names)
    return Body(graph, dict(zip(answers, outputs, strict=False)), renamed=names)


def _unknown_step(model: Any, error: Exception) -> str:
    text = str(error)
    for path, step in nested(model):
        if (
            f"{type(step).__module__}.{type(step).__name__}" in text
            or f"'{type(step).__name__}'" in text
        ):
            return (
                f"the step {path!r} is a {type(step).__name__}, which has no form as a graph; "
                "compute it before the model, as a column of the sample, or teach skl2onnx how by "
                "skl2onnx.update_registered_converter"
            )
    return f"a step of the model has no form as a graph: {text.strip().splitlines()[0]}"


def _types(
    model: Any, sample: Sample, precise: bool, names: Mapping[str, str]
) -> list[tuple[str, Any]]:
    """The inputs in skl2onnx's types, under their `names`."""
    from skl2onnx.common.data_types import (
        DoubleTensorType,
        FloatTensorType,
        StringTensorType,
    )

    number = DoubleTensorType if precise else FloatTensorType
    kinds = {tensor.datatype == "BYTES" for tensor in sample.inputs}
    width = sum((tensor.row_shape or (1,))[0] for tensor in sample.inputs)
    if len(kinds) == 1 and not _picks_columns(model):
        return [(MATRIX, (StringTensorType if sample.has_texts else number)([None, width]))]
    return [
        (
            names[tensor.name],
            (StringTensorType if tensor.datatype == "BYTES" else number)(
                [None, (tensor.row_shape or (1,))[0]]
            ),
        )
        for tensor in sample.inputs
    ]


def _picks_columns(model: Any) -> bool:
    first = model.steps[0][1] if hasattr(model, "steps") else model
    if hasattr(first, "steps"):
        return _picks_columns(first)
    if hasattr(first, "transformers_"):
        return True
    return any(_picks_columns(step) for _, step in getattr(first, "transformer_list", ()))


def _joined(steps: Body, booster: Boosted) -> Body:
    """The booster's graph behind that of the steps."""
    from onnx import TensorProto, helper

    model = compose.add_prefix(steps.model, "steps_", rename_inputs=False)
    features = "steps_" + steps.outputs["features"]
    graph = model.graph
    nodes = [helper.make_node("Cast", [features], [MATRIX + "_"], to=TensorProto.DOUBLE)]
    graph.node.extend([*nodes, *booster.nodes(MATRIX + "_")])
    graph.initializer.extend(booster.constants())
    del graph.output[:]
    graph.output.extend(booster.infos())
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*item) for item in OPSETS.items())
    return Body(model, {name: name for name in booster.outputs}, renamed=steps.renamed)
