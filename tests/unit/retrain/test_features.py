"""Features that are computed inside the graph."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.feature_rules import FeatureRule, parse_feature_rules
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, input_tensors
from driftloop_retrain.tabular.features.computing import computed
from driftloop_retrain.tabular.features.feature import DATE_COLUMNS
from driftloop_retrain.tabular.features.fitting import fit_features, targets_of
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.parity import check_parity
from driftloop_retrain.tabular.recipes import FitContext, Recipe
from driftloop_retrain.tabular.recipes.boosted_extras import CatBoost, XgBoost
from driftloop_retrain.tabular.recipes.encoding import fit_rows
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.recipes.linear import Linear
from driftloop_retrain.tabular.recipes.tabular_network import ResidualNetwork, TabularNetwork

TIMES = [
    datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC),
    datetime(1999, 12, 31, 12, tzinfo=UTC),
    datetime(2000, 3, 1, tzinfo=UTC),
    datetime(2026, 11, 29, 18, 30, tzinfo=UTC),
]
ALL_RULES = {
    "inputs": {
        "x": {"features": ["standard", "clip", {"bins": 4}]},
        "at": {"features": ["date"]},
        "city": {"features": [{"one_hot": 3}, "frequency", "target"]},
        "words": {"features": [{"tfidf": 5}, {"hashed": 4}]},
    },
    "crosses": [["city", "kind"]],
}


def rows(count: int = 400) -> Dataset:
    random = np.random.default_rng(0)
    city = random.choice(["rome", "oslo", "", "łódź"], count)
    words = random.choice(["good day", "bad day indeed", "", "GOOD"], count)
    x = random.normal(size=count).astype(np.float32)
    x[:20] = np.nan
    features = pa.table(
        {
            "x": x,
            "at": random.integers(0, 2_000_000_000, count),
            "city": city.tolist(),
            "kind": random.choice(["a", "b"], count).tolist(),
            "words": words.tolist(),
        }
    )
    labels = ((city == "rome") ^ (random.random(count) < 0.2)).astype(np.int64)
    return dataset_of(features, labels, np.arange(count).astype("datetime64[us]"), "made up")


def made(data: Dataset, kind: str, *inputs: str, size: int = 0) -> np.ndarray:
    tensors = input_tensors(data.features)
    targets = targets_of(data.labels, np.array([0, 1]))
    rule = FeatureRule(inputs, kind, size)
    found = fit_features([rule], data.features, tensors, targets)
    return computed(found, tensors, data.features)


def test_a_date_is_its_parts_its_cycles_and_its_age() -> None:
    at = [int(time.timestamp()) for time in TIMES]
    data = dataset_of(pa.table({"at": at}), np.array([0, 1, 0, 1]), np.zeros(4, "M8[us]"), "")
    found = dict(zip(DATE_COLUMNS, made(data, "date", "at").T, strict=True))
    for name in ("year", "month", "day", "hour"):
        assert found[name].tolist() == [getattr(time, name) for time in TIMES]
    assert found["weekday"].tolist() == [time.weekday() for time in TIMES]
    assert found["age_days"].min() == 0
    assert found["hour_cos"][1] == pytest.approx(-1)


def test_numbers_are_clipped_and_binned_and_missing_ones_stay_missing() -> None:
    data = rows()
    clipped = made(data, "clip", "x")
    assert np.isnan(clipped[:20]).all()
    assert clipped[20:].max() < np.nanmax(data.features["x"].to_numpy())
    bins = made(data, "bins", "x", size=4)
    assert set(bins[20:, 0].tolist()) == {0, 1, 2, 3}
    standard = made(data, "standard", "x")
    assert float(np.nanstd(standard)) == pytest.approx(1, abs=1e-3)


def test_words_are_weighed_and_hashed_whatever_their_case() -> None:
    data = rows()
    found = made(data, "tfidf", "words", size=5)
    texts = data.features["words"].to_pylist()
    good, empty = texts.index("GOOD"), texts.index("")
    assert found[good].tolist().count(1.0) == 1
    assert not found[empty].any()
    assert made(data, "hashed", "words", size=4)[texts.index("bad day indeed")].sum() == 3


def test_a_target_encoding_does_not_show_a_row_its_own_label() -> None:
    """Each row has a category of its own."""
    labels = np.arange(300) % 2
    features = pa.table({"id": [f"id{number}" for number in range(300)]})
    data = dataset_of(features, labels, np.zeros(300, "M8[us]"), "")
    context = FitContext(
        "classification", input_tensors(features), 0, Path(), classes=np.array([0, 1]),
        features=(FeatureRule(("id",), "target"),),
    )  # fmt: skip
    encoding, matrix = fit_rows(data, context)
    in_training, in_serving = matrix[:, -1], encoding.matrix(features)[:, -1]
    assert abs(np.corrcoef(in_training, labels)[0, 1]) < 0.3
    assert np.corrcoef(in_serving, labels)[0, 1] > 0.99


FAMILIES: tuple[Recipe, ...] = (
    GradientBoosting(),
    Linear(),
    XgBoost(),
    CatBoost(),
    TabularNetwork(),
    ResidualNetwork(),
)


@pytest.mark.parametrize("recipe", FAMILIES, ids=lambda r: r.name)
def test_a_graph_with_all_features_answers_as_the_model(recipe: Recipe, tmp_path: Path) -> None:
    data = rows()
    context = FitContext(
        "classification",
        input_tensors(data.features),
        0,
        tmp_path / "work",
        classes=np.array([0, 1]),
        features=parse_feature_rules(ALL_RULES),
        rounds=3,
    )
    model = recipe.fit(data.slice(0, 300), None, context)
    model.export(tmp_path)
    graph, held = OnnxModel(tmp_path), data.features.slice(300)
    unknown = held.set_column(2, "city", pa.array(["nowhere"] * held.num_rows))
    for table in (held, unknown, held.slice(0, 1)):
        check_parity(table, model.predict(table), outputs_of(graph, table), 1e-5)


@pytest.mark.parametrize("recipe", FAMILIES, ids=lambda r: r.name)
def test_every_family_learns_from_a_feature_that_is_declared(
    recipe: Recipe, tmp_path: Path
) -> None:
    """The label is the weekday of a time, which no family sees in the seconds themselves."""
    at = np.random.default_rng(1).integers(0, 2_000_000_000, 1_200)
    labels = ((at // 86_400 + 3) % 7 >= 5).astype(np.int64)
    data = dataset_of(pa.table({"at": at}), labels, np.arange(1_200).astype("M8[us]"), "")
    context = FitContext(
        "classification", input_tensors(data.features), 0, tmp_path, classes=np.array([0, 1]),
        rounds=2 if recipe.name == "linear" else 16, features=(FeatureRule(("at",), "date"),),
    )  # fmt: skip
    model = recipe.fit(data.slice(0, 900), None, context)
    held = data.slice(900, 1_200)
    right = model.predict(held.features)["label"] == held.labels
    assert right.mean() > 0.9


@pytest.mark.parametrize("recipe", FAMILIES, ids=lambda r: r.name)
def test_a_million_categories_make_no_large_graph(recipe: Recipe, tmp_path: Path) -> None:
    """Each family knows the most frequent ones."""
    count = 20_000
    texts = [f"id{number if number % 2 else number % 1_000}" for number in range(count)]
    data = dataset_of(pa.table({"id": texts}), np.arange(count) % 2, np.zeros(count, "M8[us]"), "")
    context = FitContext(
        "classification", input_tensors(data.features), 0, tmp_path, classes=np.array([0, 1]),
        rounds=1,
    )  # fmt: skip
    recipe.fit(data, None, context).export(tmp_path)
    keys = [
        len(attribute.strings)
        for node in onnx.load(tmp_path / "model.onnx").graph.node
        for attribute in node.attribute
        if attribute.name == "keys_strings"
    ]
    assert keys == [1_000]
    assert (tmp_path / "model.onnx").stat().st_size < 300_000


def test_a_target_encoding_knows_the_most_frequent_categories() -> None:
    features = pa.table({"id": [f"id{number}" for number in range(30_000)]})
    data = dataset_of(features, np.arange(30_000) % 2, np.zeros(30_000, "M8[us]"), "")
    targets = targets_of(data.labels, np.array([0, 1]))
    tensors = input_tensors(features)
    (found,) = fit_features([FeatureRule(("id",), "target")], features, tensors, targets)
    assert len(found.keys) == 10_000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"inputs": {"x": {"features": ["colour"]}}}, "'colour' is not one of standard"),
        ({"inputs": {"x": {"features": "clip"}}}, "`features` is a list"),
        ({"inputs": {"x": {"features": [{"bins": 1}]}}}, "at least two"),
        ({"inputs": {"x": {"features": [{"clip": 3}]}}}, "no number of columns"),
        ({"crosses": [["a"]]}, "not a list of two inputs"),
    ],
)
def test_wrong_rules_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        parse_feature_rules(options)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (FeatureRule(("x",), "target"), "takes one text"),
        (FeatureRule(("city",), "clip"), "takes one number"),
        (FeatureRule(("nothing",), "clip"), "no input 'nothing'"),
    ],
)
def test_a_feature_must_fit_its_input(rule: FeatureRule, reason: str) -> None:
    data = rows(40)
    with pytest.raises(Rejected, match=reason):
        fit_features([rule], data.features, input_tensors(data.features), np.zeros((40, 1)))
