from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.dataset import input_tensors
from driftloop_retrain.tabular.parity import check_parity
from driftloop_retrain.tabular.recipes import FitContext, Recipe, find_recipe, recipe_names
from driftloop_retrain.tabular.recipes.boosted_extras import CatBoost, XgBoost
from driftloop_retrain.tabular.recipes.check import check_recipe, example
from driftloop_retrain.tabular.recipes.gradient_boosting import STARTS, GradientBoosting
from driftloop_retrain.tabular.recipes.linear import Linear
from driftloop_retrain.tabular.recipes.random_forest import RandomForest
from driftloop_retrain.tabular.recipes.tabular_network import ResidualNetwork, TabularNetwork


@pytest.mark.parametrize(
    "recipe",
    [
        GradientBoosting(),
        RandomForest(),
        TabularNetwork(),
        ResidualNetwork(),
        Linear(),
        XgBoost(),
        CatBoost(),
    ],
    ids=lambda r: r.name,
)
def test_built_in_recipes_keep_to_the_contract(recipe: Recipe, tmp_path: Path) -> None:
    check_recipe(recipe, tmp_path)


@pytest.mark.parametrize("recipe", [XgBoost(), CatBoost()], ids=lambda r: r.name)
def test_a_class_without_a_row_to_train_on_is_named(recipe: Recipe, tmp_path: Path) -> None:
    data = example("classification", rows=300)
    context = FitContext(
        "classification", input_tensors(data.features), 0, tmp_path, classes=np.arange(4)
    )
    with pytest.raises(Rejected, match="no row to train on has the label 3"):
        recipe.fit(data, None, context)


def test_a_linear_model_gives_a_class_without_a_row_no_chance(tmp_path: Path) -> None:
    data = example("classification", rows=300)
    context = FitContext(
        "classification", input_tensors(data.features), 0, tmp_path, classes=np.arange(4)
    )
    answers = Linear().fit(data, None, context).predict(data.features)
    assert answers["probabilities"][:, 3].max() < 1e-6
    assert (answers["label"] == data.labels).mean() > 0.8


@pytest.mark.parametrize("recipe", [GradientBoosting(), TabularNetwork()], ids=lambda r: r.name)
@pytest.mark.parametrize("column", ["size", "kind"])
def test_what_training_never_saw_of_a_column_changes_no_answer(
    recipe: Recipe, column: str, tmp_path: Path
) -> None:
    """Capture drops the column: the lake has nulls of it, requests have values."""
    import pyarrow as pa

    from driftloop_onnx import OnnxModel
    from driftloop_retrain.tabular.inference import outputs_of

    seen = example("regression", rows=600)
    at = seen.features.column_names.index(column)
    nulls = pa.nulls(seen.rows, seen.features.schema.field(column).type)
    data = replace(seen, features=seen.features.set_column(at, column, nulls))
    context = FitContext("regression", input_tensors(seen.features), 0, tmp_path)
    recipe.fit(data.slice(0, 400), data.slice(400, 600), context).export(tmp_path)
    graph = OnnxModel(tmp_path)
    check_parity(
        seen.features, outputs_of(graph, data.features), outputs_of(graph, seen.features), 0.0
    )


def test_a_network_with_all_its_parameters_is_one_graph(tmp_path: Path) -> None:
    from driftloop_onnx import OnnxModel
    from driftloop_retrain.tabular.inference import outputs_of

    data = example("classification", rows=600)
    context = FitContext(
        "classification", input_tensors(data.features), 0, tmp_path, classes=np.unique(data.labels)
    )
    given = {"dropout": 0.2, "noise": 0.1, "mixup": 0.2, "width": 48, "layers": 1}
    for network in (TabularNetwork(max_epochs=2), ResidualNetwork(max_epochs=2)):
        folder = tmp_path / network.name
        searched = replace(context, parameters=given, checkpoints=folder)
        model = network.fit(data.slice(0, 400), data.slice(400, 600), searched)
        model.export(folder)
        graph = outputs_of(OnnxModel(folder), data.features)
        check_parity(data.features, model.predict(data.features), graph, 1e-4)


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_result(tmp_path: Path) -> None:
    data = example("classification", rows=600)
    train, held = data.slice(0, 400), data.slice(400, 600)

    def context(name: str, die_at: float = 2.0) -> FitContext:
        def report(share: float, loss: float | None) -> None:
            if share >= die_at:
                raise Killed

        return FitContext(
            "classification",
            input_tensors(data.features),
            3,
            tmp_path / name,
            classes=np.unique(data.labels),
            report=report,
        )

    whole = TabularNetwork().fit(train, held, context("whole"))
    with pytest.raises(Killed):
        TabularNetwork().fit(train, held, context("killed", die_at=0.3))
    resumed = TabularNetwork().fit(train, held, context("killed"))
    assert resumed.rounds == whole.rounds
    rows = held.features
    check_parity(rows, whole.predict(rows), resumed.predict(rows), 0.0)


@pytest.mark.parametrize("recipe", [TabularNetwork(), ResidualNetwork()], ids=lambda r: r.name)
def test_a_network_of_the_validated_length_is_the_one_that_was_validated(
    recipe: TabularNetwork, tmp_path: Path
) -> None:
    data = example("classification", rows=600)
    # Nothing can be learned from labels at random, so that the best epoch is an early one.
    data = replace(data, labels=np.random.default_rng(0).permutation(data.labels))
    train, held = data.slice(0, 400), data.slice(400, 600)
    classes, inputs = np.unique(data.labels), input_tensors(data.features)

    def context(name: str, rounds: int | None = None) -> FitContext:
        return FitContext(
            "classification", inputs, 3, tmp_path / name, classes=classes, rounds=rounds
        )

    validated = recipe.fit(train, held, context("validated"))
    assert validated.rounds < recipe.max_epochs
    final = recipe.fit(train, None, context("final", validated.rounds))
    check_parity(held.features, validated.predict(held.features), final.predict(held.features), 0.0)


def test_the_first_parameters_to_be_tried_are_lightgbms_defaults(tmp_path: Path) -> None:
    import lightgbm

    data = example("classification", rows=400)
    classes, inputs = np.unique(data.labels), input_tensors(data.features)
    context = FitContext(
        "classification", inputs, 0, tmp_path, classes=classes, parameters=STARTS[0], rounds=7
    )
    train, held = data.slice(0, 300), data.slice(300, 400)
    for validation in (None, held):  # neither the validated length nor the rows change them
        ours = GradientBoosting().fit(train, validation, context)
        matrix = ours.encoding.matrix(train.features)
        theirs = lightgbm.LGBMClassifier(n_jobs=1, verbosity=-1).fit(matrix, train.labels)
        wanted = theirs.predict_proba(ours.encoding.matrix(held.features))
        np.testing.assert_allclose(ours.predict(held.features)["probabilities"], wanted, atol=1e-6)


def test_a_tree_graph_walks_like_the_trees_even_on_thresholds(tmp_path: Path) -> None:
    """Rows whose number lies exactly on a split, or beside it by one float32 step."""
    import pyarrow as pa

    from driftloop_onnx import OnnxModel
    from driftloop_retrain.tabular.inference import outputs_of

    data = example("regression")
    context = FitContext("regression", input_tensors(data.features), 0, tmp_path)
    model = GradientBoosting().fit(data.slice(0, 900), data.slice(900, 1200), context)
    model.export(tmp_path)
    dump = model.booster.trees_to_dataframe()
    splits = dump.loc[dump["split_feature"] == "Column_0", "threshold"].to_numpy(np.float32)
    values = np.concatenate(
        [splits, np.nextafter(splits, np.float32(9)), np.nextafter(splits, np.float32(-9))]
    )
    n = len(values)
    rows = pa.table(
        {
            "size": values,
            "count": np.arange(n) % 9,
            "flag": np.arange(n) % 2 == 0,
            "kind": ["a"] * n,
        }
    )
    check_parity(rows, model.predict(rows), outputs_of(OnnxModel(tmp_path), rows), 1e-5)


def test_tabular_stands_for_the_families_of_the_settings() -> None:
    families = ("gradient-boosting", "tabular-network")
    assert recipe_names("tabular", (), families) == families
    assert recipe_names("tabular", ("gradient-boosting",), families) == ("gradient-boosting",)
    with pytest.raises(Rejected, match="no recipe"):
        recipe_names(None, (), families)


@pytest.mark.parametrize(
    "name", ["unknown", "no_such_module:Recipe", "driftloop_retrain.tabular.gate:Nothing"]
)
def test_a_recipe_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(Rejected, match=name):
        find_recipe(name)


def test_a_recipe_of_ours_is_found_by_the_module_of_an_earlier_release() -> None:
    found = find_recipe("driftloop_retrain.recipes.gradient_boosting:GradientBoosting")
    assert isinstance(found, GradientBoosting)


def test_the_harmful_recipe_does_harm(tmp_path: Path) -> None:
    from driftloop_demo.harmful import Harmful
    from driftloop_retrain.tabular.evaluate import losses

    data = example("classification")
    context = FitContext(
        "classification", input_tensors(data.features), 0, tmp_path, classes=np.unique(data.labels)
    )
    train, held = data.slice(0, 900), data.slice(900, 1200)
    good, bad = (recipe.fit(train, held, context) for recipe in (GradientBoosting(), Harmful()))
    loss = [
        losses("classification", held.labels, m.predict(held.features)["label"]).mean()
        for m in (good, bad)
    ]
    assert loss[1] > loss[0] + 0.08
