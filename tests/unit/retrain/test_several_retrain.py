"""A whole retrain of a model with several labels, on a lake in memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_rows import MODEL, NOW, archived
from sklearn.linear_model import LinearRegression, LogisticRegression

from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_onnx import OnnxModel
from driftloop_registry.memory_registry import MemoryRegistry
from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.job.reproduce import reproduce
from driftloop_retrain.record.lineage import read_lineage
from driftloop_retrain.report.record import pages, version_record
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, input_tensors
from driftloop_retrain.tabular.recipes import FitContext, recipe
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.several.labels import part_of, structured
from driftloop_retrain.tabular.several.model import FittedTogether, ServedTogether
from driftloop_retrain.tabular.several.outputs import new_outputs

Ask = Callable[..., str]
TASKS: Any = {"level": "classification", "score": "regression"}
CLASSES: Any = {"level": np.arange(2), "score": None}
SPEC = ModelSpec.from_dict(
    {
        "name": MODEL,
        "task": "classification",
        "output": "level",
        "recipe": "gradient-boosting",
        "slices": ["kind"],
        "objective": [
            {"metric": "error", "label": "level", "output": "level", "classes": [0, 1]},
            {"metric": "absolute", "label": "score", "output": "score"},
        ],
        "guardrails": [
            {"metric": "miss_rate", "label": "level", "output": "level", "classes": [0, 1]}
        ],
    }
)


def rows(count: int, seed: int = 0) -> Dataset:
    """The value of the example and whether it is high; a quarter has no value."""
    data = example("regression", count, seed)
    value = data.labels.astype(float)
    dice = np.random.default_rng(seed)
    score = np.where(dice.random(count) < 0.25, np.nan, value)
    labels = structured({"level": (value > 0).astype(int).astype(object), "score": score}, TASKS)
    return dataset_of(data.features, labels, data.at, "example")


@pytest.fixture(scope="session")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of few rows, so that a retrain can do better."""
    folder, data, members = tmp_path_factory.mktemp("several"), rows(150, 5), {}
    for label, task in TASKS.items():
        context = FitContext(
            task, input_tensors(data.features), 0, folder, classes=CLASSES[label], rounds=2
        )
        members[label] = GradientBoosting().fit(part_of(data, label), None, context)
    outputs = new_outputs(SPEC, data.features.column_names)
    ServedTogether(outputs, members, CLASSES).export(folder)
    return folder


@pytest.fixture
def several(context: RetrainContext, lake: Any, champion: Path, tmp_path: Path) -> RetrainContext:
    """Version 1 has two labels, and the lake holds 2,000 rows of it."""
    graph = OnnxModel(champion)
    registry = MemoryRegistry(tmp_path / "several")
    made = registry.register(MODEL, champion, graph.signature, metrics={}, params={}, tags={})
    served = ServedVersion(1, made.path, graph.signature)
    deployed = context.store.require_deployment(MODEL)
    context.store.put_deployment(replace(deployed, model=SPEC, versions=(served,)))
    lake.table = archived(rows(2_000), graph)
    smaller = context.settings.retrain.model_copy(update={"min_slice_rows": 50})
    settings = context.settings.model_copy(update={"retrain": smaller})
    return replace(context, settings=settings, registry=registry, clock=lambda: NOW)


def test_a_retrain_trains_judges_and_reports_each_output(
    several: RetrainContext, ask: Ask, tmp_path: Path
) -> None:
    retrain_id = ask()
    assert run_retrain(several, retrain_id) == "succeeded"
    record = several.store.retrain(retrain_id)
    result, checks = record.result, record.result["gate"]["checks"]
    names = [check["name"] for check in checks]
    assert names[:4] == ["overall", "error level", "absolute score", "miss_rate level"]
    assert {"slice kind=a (error level)", "slice kind=a (absolute score)"} <= set(names)
    assert result["family"] == "level: gradient-boosting, score: gradient-boosting"
    assert record.metrics["level accuracy"] > result["champion_metrics"]["level accuracy"]
    assert record.metrics["score rmse"] < result["champion_metrics"]["score rmse"]
    assert result["data_checks"]["labelled"]["score"] < result["data_checks"]["labelled"]["level"]
    assert result["outputs"]["score"]["evaluation"]["residuals"]
    assert result["outputs"]["level"]["evaluation"]["confusion"]["classes"] == ["0", "1"]
    assert result["outputs"]["level"]["trials"][0]["over_champion"] > 0

    version = several.registry.version(MODEL, 2)
    made, graph = OnnxModel(version.path), OnnxModel(several.registry.version(MODEL, 1).path)
    assert made.signature == graph.signature
    lineage = read_lineage(version)
    assert lineage is not None
    assert lineage.training.trials_of == {"level": 1, "score": 1}
    page = pages(version_record(several.registry, several.store, MODEL, 2))["report.md"]
    for title in ("level: Behaviour on the held-out rows", "score: Importance of columns"):
        assert f"## {title}\n" in page
    again = reproduce(
        several.settings, several.lake, several.registry, version, tmp_path / "again", 0.0,
        lambda done, words: None,
    )  # fmt: skip
    assert [c.name for c in again.compared if not c.same] == []
    assert again.graph.same


def test_a_candidate_that_is_worse_for_one_output_is_refused(
    several: RetrainContext, ask: Ask
) -> None:
    retrain_id = ask(recipes=(f"{__name__}:WorseScore",))
    assert run_retrain(several, retrain_id) == "rejected"
    reasons = several.store.retrain(retrain_id).result["gate"]["reasons"]
    assert any(reason.startswith("absolute score: worse by") for reason in reasons)
    assert any(reason.startswith("baseline score: no better than") for reason in reasons)
    assert not any(reason.startswith("error level") for reason in reasons)


class WorseScore:
    """The other way round, for one of the labels."""

    name, joint = "worse-score", True

    def fit(self, train: Dataset, validation: Any, context: FitContext) -> FittedTogether:
        members = {}
        for label, of in context.labels.items():
            part = part_of(train, label)
            if label == "score":
                part = replace(part, labels=-9.0 * part.labels)
            alone = FitContext(of.task, context.inputs, 3, context.checkpoints, of.classes, 40)
            members[label] = GradientBoosting().fit(part, None, alone)
        return FittedTogether(members)


def test_an_own_recipe_returns_a_model_for_each_label(several: RetrainContext, ask: Ask) -> None:
    retrain_id = ask(recipes=(f"{__name__}:own",))
    assert run_retrain(several, retrain_id) == "succeeded"
    assert several.store.retrain(retrain_id).result["family"] == "own"


@recipe
def own(train: Dataset, context: FitContext) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rows, found = train.features.to_pandas(), {}
    for label, model in {"level": LogisticRegression(), "score": LinearRegression()}.items():
        known = [v is not None and v == v for v in train.label(label)]
        encoded = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["kind"]),
            (SimpleImputer(), ["size", "count", "flag"]),
        )
        values = [v for v, keep in zip(train.label(label), known, strict=True) if keep]
        found[label] = make_pipeline(encoded, model).fit(rows[known], values)
    return found
