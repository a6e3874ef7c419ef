"""The cookbook's recipes do what a retrain needs; those that go wrong fail it with the reason."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, input_tensors
from driftloop_retrain.tabular.recipes import FitContext, find_recipe, recipe
from driftloop_retrain.tabular.recipes.check import RecipeBroken, check_recipe_on, example
from driftloop_retrain.tabular.several.check import check_recipe_together
from driftloop_retrain.tabular.several.labels import structured

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "recipes.md"
BLOCKS = {
    found[1]: block
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    if (found := re.search(r"def (\w+)\(train", block))
}
HERE = "test_own_recipes"
Ask = Callable[..., str]


@pytest.fixture
def cookbook(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Loads a recipe of the guide as from a user's module."""

    def one(name: str) -> Any:
        module = ModuleType(f"cookbook_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(BLOCKS[name], f"{name}.py", "exec"), module.__dict__)
        return find_recipe(f"{module.__name__}:{name}")

    return one


def data_set(features: dict[str, Any], labels: Any) -> Dataset:
    at = np.arange(len(labels)).astype("datetime64[us]")
    return dataset_of(pa.table(features), np.asarray(labels), at, "a test")


def loans(rows: int = 600) -> Dataset:
    """Without missing values: texts, booleans and numbers."""
    dice = np.random.default_rng(0)
    income = dice.normal(size=rows).astype(np.float32)
    kind = dice.choice(["a", "b", "c"], rows)
    labels = (income + np.where(kind == "a", 2.0, -1.0) + dice.normal(0, 0.3, rows) > 0).astype(int)
    return data_set({"income": income, "kind": kind.tolist()}, labels)


def prices() -> Dataset:
    data = loans()
    income = data.features["income"].to_numpy().astype(float)
    kind = np.array(data.features["kind"].to_pylist())
    return data_set(
        {n: data.features[n] for n in data.features.column_names}, 3 * income + (kind == "b") * 4
    )


def numbers() -> Dataset:
    data = loans()
    first = data.features["income"].to_numpy()
    second = (np.array(data.features["kind"].to_pylist()) == "a").astype(np.float32)
    return data_set({"income": first, "is_a": second}, data.labels)


def letters() -> Dataset:
    dice = np.random.default_rng(0)
    words = {"weather": ["rain", "sun", "wind"], "money": ["loan", "rate", "bank"]}
    labels = dice.choice(list(words), 400)
    texts = [" ".join(dice.choice([*words[label], "the", "a"], 6)) for label in labels]
    return data_set({"text": texts}, labels.astype(object))


def sales() -> Dataset:
    day = np.arange(500)
    noise = np.random.default_rng(0).normal(0, 0.1, 500)
    series = 10 + 0.01 * day + np.sin(2 * np.pi * day / 7) * 2 + noise
    lags = {f"lag_{n}": np.float32(series[7 - n : 500 - n]) for n in (1, 2, 7)}
    return data_set({**lags, "weekday": (day[7:] % 7).astype(str).tolist()}, series[7:])


EXAMPLES: dict[str, tuple[Any, Callable[[], Dataset]]] = {
    "forest": ("classification", loans),
    "boosted": ("regression", prices),
    "network": ("classification", numbers),
    "topics": ("classification", letters),
    "forecast": ("regression", sales),
}


def test_the_guide_has_five_short_recipes_and_one_of_several_labels() -> None:
    assert set(BLOCKS) == {*EXAMPLES, "offers"}
    for block in BLOCKS.values():
        body = block[block.index("@recipe") :].strip().splitlines()
        assert len(body) <= 18, block
        assert len(body) <= 15 or "torch" in block


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_recipe_of_the_guide_does_what_a_retrain_needs(
    name: str, cookbook: Callable[[str], Any], tmp_path: Path
) -> None:
    task, data = EXAMPLES[name]
    check_recipe_on(cookbook(name), task, data(), tmp_path)


def test_the_recipe_of_several_labels_does_what_a_retrain_needs(
    cookbook: Callable[[str], Any], tmp_path: Path
) -> None:
    tasks: Any = {"approve": "classification", "amount": "regression"}
    data = numbers()
    values = 3.0 * data.features["income"].to_numpy()
    values[::4] = np.nan
    labels = structured({"approve": data.labels.astype(object), "amount": values}, tasks)
    both = dataset_of(data.features, labels, data.at, "a test")
    check_recipe_together(cookbook("offers"), tasks, both, tmp_path)


def test_a_network_continues_from_what_its_last_version_kept(
    cookbook: Callable[[str], Any], tmp_path: Path
) -> None:
    import torch

    network, data = cookbook("network"), numbers()
    inputs, classes = input_tensors(data.features), np.unique(data.labels)

    def fit(name: str, champion: Path | None) -> Any:
        context = FitContext(
            "classification", inputs, 0, tmp_path / name, classes=classes, champion=champion
        )
        return network.fit(data, None, context)

    first = fit("first", None)
    first.export(tmp_path / "version")
    kept = torch.load(tmp_path / "version" / "recipe" / "weights.pt", weights_only=True)
    fresh = fit("fresh", None).predict(data.features)["probabilities"]
    warm = fit("warm", tmp_path / "version").predict(data.features)["probabilities"]
    assert set(kept) >= {"1.weight"}
    np.testing.assert_allclose(fresh, first.predict(data.features)["probabilities"], atol=1e-6)
    assert np.abs(warm - fresh).max() > 1e-3


@recipe
def nothing(train: Dataset, context: FitContext) -> None:
    return None


@recipe
def a_text(train: Dataset, context: FitContext) -> str:
    return "a model"


@recipe
def not_fitted(train: Dataset, context: FitContext) -> Any:
    return LogisticRegression()


@recipe
def of_other_columns(train: Dataset, context: FitContext) -> Any:
    return LogisticRegression().fit(pd.DataFrame({"age": np.arange(9.0)}), [0, 1, 2] * 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "train: recipe 'nothing' returns nothing"),
        ("a_text", "train: a builtins.str is not a model of"),
        ("not_fitted", "train: the LogisticRegression is not fitted"),
        ("of_other_columns", "train: the model was trained on 'age', which the sample lacks"),
    ],
)
def test_nonsense_fails_the_retrain_with_stage_and_reason(
    name: str, words: str, context: RetrainContext, ask: Ask
) -> None:
    retrain_id = ask(recipes=(f"{HERE}:{name}",))
    assert run_retrain(context, retrain_id) == "failed"
    assert context.store.retrain(retrain_id).reasons[0].startswith(words)
    assert context.registry.aliases("loans") == {}


@recipe
def constant(train: Dataset, context: FitContext) -> Any:
    return DummyClassifier().fit(train.features.to_pandas(), train.labels)


def test_a_recipe_that_learns_nothing_does_not_pass_the_check(tmp_path: Path) -> None:
    with pytest.raises((RecipeBroken, Exception), match=r"not better than|has no form"):
        check_recipe_on(constant, "classification", numbers(), tmp_path)


def test_the_source_of_a_recipe_is_recorded() -> None:
    from driftloop_retrain.record.provenance import this_code

    assert set(this_code([constant]).recipes) == {"constant"}
    assert example("regression").rows
