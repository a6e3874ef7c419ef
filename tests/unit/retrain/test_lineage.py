"""What a version says of where it comes from, and that it can be trained again from that."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_lake.port import Pin
from driftloop_registry.port import VersionRecord
from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.job.reproduce import Reproduction, reproduce
from driftloop_retrain.record.graph_identity import graph_hash
from driftloop_retrain.record.lineage import FILE, Lineage, lineage_document, read_lineage
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes import FitContext, FittedModel
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting

Ask = Callable[..., str]
HERE = "test_lineage"


class Moody:
    """Trains another model each time."""

    name = "moody"
    deterministic = False
    fits = 0

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        Moody.fits += 1
        return GradientBoosting().fit(train, validation, replace(context, seed=Moody.fits))


def retrained(context: RetrainContext, ask: Ask, **body: object) -> VersionRecord:
    retrain_id = ask(**body)
    assert run_retrain(context, retrain_id) == "succeeded", context.store.retrain(retrain_id)
    return context.registry.version("loans", 2)


def again(
    context: RetrainContext, version: VersionRecord, work: Path, tolerance: float = 1e-9
) -> Reproduction:
    return reproduce(
        context.settings,
        context.lake,
        context.registry,
        version,
        work,
        tolerance,
        lambda share, words: None,
    )


def rewritten(version: VersionRecord, **changed: Any) -> None:
    """As if it had been recorded so."""
    path = Path(version.path) / FILE
    document = json.loads(path.read_text())
    for name, value in changed.items():
        section, _, key = name.partition("__")
        if key:
            document[section][key] = value
        else:
            document[section] = value
    path.write_text(json.dumps(document))


def test_a_retrained_version_names_its_data_code_settings_and_parent(
    context: RetrainContext, ask: Ask
) -> None:
    version = retrained(context, ask)
    found = read_lineage(version)
    assert isinstance(found, Lineage)
    assert (found.data.predictions, found.data.labels) == (3, 4)
    assert found.data.as_of == context.clock()
    assert found.data.offsets["predictions"] == {"driftloop.predictions:0": 17}
    assert (found.data.rows, found.data.trained_rows, found.data.holdout_rows) == (2000, 1700, 300)
    assert (found.parent_version, found.seed) == (1, 0)
    assert found.training.settings["max_rows"] == context.settings.retrain.max_rows
    assert found.training.recipes == ("gradient-boosting",)
    assert found.environment.packages["lightgbm"]
    assert len(found.code.sha256) == 64
    assert found.metrics["accuracy"] == version.metrics["accuracy"]
    assert found.graph_sha256 == graph_hash(Path(version.path))


def test_the_document_tells_retrained_from_deployed(context: RetrainContext, ask: Ask) -> None:
    retrained(context, ask)
    document = lineage_document(context.registry, "loans", 2)
    assert (document["source"], document["ancestors"]) == ("retrain", [1])
    assert document["aliases"] == ["challenger"]
    json.dumps(document)
    outside = lineage_document(context.registry, "loans", 1)
    assert (outside["source"], outside["ancestors"]) == ("deployed", [])
    assert len(outside["files"]["model.onnx"]) == 64


def test_a_version_is_reproduced_with_the_same_graph_from_the_same_rows(
    context: RetrainContext, ask: Ask, lake: Any, tmp_path: Path
) -> None:
    version = retrained(context, ask)
    before = context.store.deployment("loans"), context.registry.versions("loans")
    lake.pin = lambda model: Pin(8, 9)  # the lake has grown in the meantime
    changed = context.settings.retrain.model_copy(update={"seed": 7, "max_rows": 500})
    other = replace(context, settings=context.settings.model_copy(update={"retrain": changed}))
    found = again(other, version, tmp_path / "work")
    assert found.ok, found.to_dict()
    assert found.graph.same
    assert found.differences == ()
    assert {item.name for item in found.compared} >= {"rows", "family", "accuracy"}
    assert lake.pins[-1] == Pin(3, 4)
    assert (context.store.deployment("loans"), context.registry.versions("loans")) == before


def test_the_built_in_network_is_reproduced_with_the_same_graph(
    context: RetrainContext, ask: Ask, tmp_path: Path
) -> None:
    version = retrained(context, ask, recipes=["tabular-network"], override_gate=True)
    assert again(context, version, tmp_path / "work").graph.same


def test_a_search_is_reproduced_trial_by_trial(
    context: RetrainContext, ask: Ask, tmp_path: Path
) -> None:
    """Whatever the budget then is: the number of trials is in the lineage. The recipe's own
    parameters, the champion continued, and two more."""
    searched = context.settings.retrain.model_copy(update={"budget_s": 1_000.0, "trials": 2})
    other = replace(context, settings=context.settings.model_copy(update={"retrain": searched}))
    version = retrained(other, ask)
    lineage = read_lineage(version)
    assert lineage is not None
    assert lineage.training.trials == 4
    assert again(context, version, tmp_path / "work").graph.same


def test_rows_that_changed_are_noticed(
    context: RetrainContext, ask: Ask, lake: Any, tmp_path: Path
) -> None:
    version = retrained(context, ask)
    labels = pa.array(["0"] * 1_000 + lake.table["label"].to_pylist()[1_000:])
    numbers = pa.array([float(text) for text in labels.to_pylist()])
    lake.table = lake.table.set_column(
        lake.table.schema.get_field_index("label"), "label", labels
    ).set_column(lake.table.schema.get_field_index("label_number"), "label_number", numbers)
    found = again(context, version, tmp_path / "work")
    assert not found.ok
    assert not found.graph.same


def test_another_graph_is_excused_by_another_library_but_metrics_are_not(
    context: RetrainContext, ask: Ask, tmp_path: Path
) -> None:
    version = retrained(context, ask)
    lineage = read_lineage(version)
    assert lineage is not None
    rewritten(version, graph_sha256="0" * 64)
    assert not again(context, version, tmp_path / "a").ok
    packages = {**lineage.environment.packages, "lightgbm": "1.0"}
    rewritten(version, environment__packages=packages)
    found = again(context, version, tmp_path / "b")
    assert found.ok
    assert any(text.startswith("lightgbm 1.0 → ") for text in found.differences)
    rewritten(version, metrics={"accuracy": 0.1})
    assert not again(context, version, tmp_path / "c").ok


def test_a_recipe_that_says_it_is_not_deterministic_is_judged_by_metrics(
    context: RetrainContext, ask: Ask, tmp_path: Path
) -> None:
    version = retrained(context, ask, recipes=[f"{HERE}:Moody"], override_gate=True)
    found = again(context, version, tmp_path / "work", tolerance=0.5)
    assert found.ok, found.to_dict()
    assert not found.graph.same


def test_what_was_deployed_cannot_be_reproduced(context: RetrainContext, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="deployed"):
        again(context, context.registry.version("loans", 1), tmp_path)


def test_words_beside_a_graph_do_not_change_what_it_is(
    context: RetrainContext, tmp_path: Path
) -> None:
    import onnx

    source = Path(context.registry.version("loans", 1).path)
    model = onnx.load(source / "model.onnx")
    onnx.save(model, tmp_path / "model.onnx")
    assert graph_hash(tmp_path) == graph_hash(source)
    model.producer_name, model.doc_string = "other", "words"
    model.graph.node[0].doc_string = "words"
    onnx.save(model, tmp_path / "model.onnx")
    assert graph_hash(tmp_path) == graph_hash(source)
    model.graph.node[0].name = "renamed"
    model.graph.initializer[0].name += "x"
    onnx.save(model, tmp_path / "model.onnx")
    assert graph_hash(tmp_path) != graph_hash(source)
