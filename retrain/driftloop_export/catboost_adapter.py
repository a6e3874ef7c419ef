"""CatBoost, with numbers as features."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from driftloop_contracts.kind import Task
from driftloop_export.boosted import Boosted, Link, answers_of
from driftloop_export.classes import classes_from
from driftloop_export.port import Body, NotExportable, Outputs
from driftloop_export.sample import Sample
from driftloop_export.trees import GT, Branch, Leaf

_LINKS: dict[str, Link] = {
    "Logloss": "sigmoid", "CrossEntropy": "sigmoid", "MultiClass": "softmax",
    "MultiClassOneVsAll": "sigmoid", "Poisson": "exp", "Tweedie": "exp",
}  # fmt: skip
_CLASSIFIERS = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")


class CatBoost:
    """See Adapter."""

    def columns(self, model: Any) -> Sequence[str] | None:
        names = list(model.feature_names_)
        unnamed = names == [str(number) for number in range(len(names))]
        return None if unnamed else names

    def answers(self, model: Any, sample: Sample, _task: Task | None) -> Outputs:
        _check_numbers(model)
        rows = sample.pandas if self.columns(model) else sample.matrix()
        if _loss(model) not in _CLASSIFIERS:
            return answers_of(model.predict(rows), None)
        found = model.predict(rows, prediction_type="Probability")
        labels = model.predict(rows, prediction_type="Class")
        return answers_of(found, classes_from(model.classes_), classes_from(labels))

    def bodies(self, model: Any, sample: Sample, _answers: Outputs) -> Iterator[Body]:
        yield self.boosted(model, sample).body(sample)

    def boosted(self, model: Any, _sample: Sample | None) -> Boosted:
        """`_sample`: not needed, since texts are refused."""
        _check_numbers(model)
        document = _document(model)
        if "oblivious_trees" not in document:
            raise NotExportable(
                "CatBoost's grow_policy Lossguide and Depthwise cannot be exported: train with "
                "SymmetricTree, its default"
            )
        scale, base = document["scale_and_bias"]
        features = {
            item["feature_index"]: (item["flat_feature_index"], item["nan_value_treatment"])
            for item in document["features_info"]["float_features"]
        }
        loss = _loss(model)
        return Boosted(
            [_tree(tree, features, float(scale)) for tree in document["oblivious_trees"]],
            base=[float(value) for value in base],
            link=_LINKS.get(loss, "identity"),
            columns=len(model.feature_names_),
            classes=classes_from(model.classes_) if loss in _CLASSIFIERS else None,
            float32=True,
        )


def _check_numbers(model: Any) -> None:
    numbers = [
        *model.get_cat_feature_indices(),
        *model.get_text_feature_indices(),
        *model.get_embedding_feature_indices(),
    ]
    if numbers:
        name = model.feature_names_[numbers[0]]
        raise NotExportable(
            f"CatBoost encodes the column {name!r} itself (cat_features or text_features), which "
            "has no form as a graph: encode it by a step before, as in make_pipeline("
            "make_column_transformer((OrdinalEncoder(handle_unknown='use_encoded_value', "
            "unknown_value=-1), texts), remainder='passthrough'), CatBoostClassifier())"
        )


def _loss(model: Any) -> str:
    return str(model.get_all_params()["loss_function"]).partition(":")[0]


def _document(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def _tree(
    tree: dict[str, Any], features: dict[int, tuple[int, str]], scale: float
) -> Branch | Leaf:
    """The whole tree of a symmetric one, where all branches of a level ask the same."""
    splits = tree["splits"] or []
    values = np.asarray(tree["leaf_values"], np.float64).reshape(1 << len(splits), -1) * scale

    def node(level: int, index: int) -> Branch | Leaf:
        if level < 0:
            return Leaf({score: float(value) for score, value in enumerate(values[index])})
        split = splits[level]
        column, nan = features[split["float_feature_index"]]
        then, other = node(level - 1, index | 1 << level), node(level - 1, index)
        border = float(np.float32(split["border"]))
        return Branch(column, GT, border, nan == "AsTrue", then, other)

    return node(len(splits) - 1, 0)
