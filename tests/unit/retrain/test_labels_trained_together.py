"""Models with several labelled outputs: data, the scaled loss, the search and the first version."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_evaluation.labelled_metrics import labelled_metrics
from driftloop_evaluation.served_objectives import served_objectives
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, input_tensors, split
from driftloop_retrain.tabular.initial_training import tasks_said, train_first
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.recipes.multi_task_network import MultiTaskNetwork
from driftloop_retrain.tabular.several.labels import has_label, labels_in_lake, part_of, structured
from driftloop_retrain.tabular.several.model import FittedTogether, of_member
from driftloop_retrain.tabular.several.outputs import (
    new_outputs,
    outputs_of_champion,
    with_label_classes,
)
from driftloop_retrain.tabular.several.scaling import scaled
from driftloop_retrain.tabular.several.searching import EACH, TOGETHER, search_together
from driftloop_settings import RetrainSettings, Settings

TASKS: Any = {"level": "classification", "score": "regression"}
SPEC = ModelSpec.from_dict(
    {
        "name": "m",
        "task": "classification",
        "output": "level",
        "objective": [
            {"metric": "error", "label": "level", "output": "level", "classes": [0, 1, 2]},
            {"metric": "squared", "label": "score", "output": "score"},
        ],
    }
)
FAST = RetrainSettings(budget_s=0, validation="newest")


def both(rows: int = 600, without_score: float = 0.0) -> Dataset:
    """The example's class and value, some rows without the value."""
    data = example("regression", rows)
    dice = np.random.default_rng(1)
    score = np.where(dice.random(rows) < without_score, np.nan, data.labels.astype(float))
    kind = np.digitize(data.labels.astype(float), [-2.0, 2.0]).astype(object)
    labels = structured({"level": kind, "score": score}, TASKS)
    return dataset_of(data.features, labels, data.at, "example")


def test_each_output_learns_from_the_rows_that_have_its_label() -> None:
    data = both(without_score=0.3)
    assert part_of(data, "level").rows == data.rows
    part = part_of(data, "score")
    assert part.rows == has_label(data, "score").sum() < data.rows
    assert part.labels.dtype == np.float64
    assert part_of(data, "level").labels.dtype == np.int64
    missing = int(np.flatnonzero(~has_label(data, "score"))[0])
    assert data.label_values[missing] == {"level": data.label("level")[missing], "score": None}


def test_labels_of_the_lake_are_found_by_their_names() -> None:
    texts = [
        '{"level": "a", "score": 2}',
        '{"level": null}',
        '{"score": 1.5}',
        "3",
        '{"level": "b"}',
    ]
    table = pa.table({"label": texts, "label_number": pa.nulls(5, pa.float64())})
    kinds: Any = {"level": ("classification", "BYTES"), "score": ("regression", "FP32")}
    labels, known = labels_in_lake(table, kinds)
    assert known.tolist() == [True, False, True, False, True]
    assert labels["level"].tolist() == ["a", None, None, None, "b"]
    np.testing.assert_array_equal(labels["score"], [2.0, np.nan, 1.5, np.nan, np.nan])


@given(
    st.lists(st.tuples(*[st.one_of(st.just(np.nan), st.floats(0, 1))] * 2), min_size=2, max_size=30)
)
def test_the_scaled_loss_is_the_mean_over_outputs_in_their_units(rows: Any) -> None:
    values = np.array(rows)
    lost = {"a": values[:, 0], "b": values[:, 1]}
    units = {"a": 0.5, "b": 2.0}
    means = [np.nanmean(v) / units[n] for n, v in lost.items() if not np.isnan(v).all()]
    found = scaled(lost, units)
    assert len(found) == len(rows)
    assert found.mean() == pytest.approx(np.mean(means) if means else 0.0)


def tensor(name: str, kind: Any, *row: int) -> TensorSpec:
    return TensorSpec(name, kind, (-1, *row))


CHAMPION = Signature(
    (tensor("x", "FP32", 1),),
    (tensor("amount", "FP64", 1), tensor("approve", "FP32"), tensor("level_scores", "FP32", 3)),
)
OFFERS = ModelSpec.from_dict(
    {
        "name": "offers",
        "task": "classification",
        "output": "approve",
        "objective": [
            {"metric": "cost", "label": "approve", "false_positive": 1, "false_negative": 9,
             "threshold": 0.2, "classes": ["no", "yes"], "positive": "yes"},
            {"metric": "absolute", "label": "amount"},
            {"metric": "brier", "label": "level", "classes": [0, 1, 2]},
        ],
    }
)  # fmt: skip


def test_a_champions_outputs_are_found_and_made_again_in_their_types() -> None:
    classes: Mapping[str, Any] = {
        "approve": np.array(["no", "yes"], object), "amount": None, "level": np.arange(3)
    }  # fmt: skip
    outputs = with_label_classes(outputs_of_champion(OFFERS, CHAMPION), classes)
    assert [(o.label, *(role for role, _ in o.tensors)) for o in outputs] == [
        ("approve", "positive"), ("amount", "value"), ("level", "probabilities")
    ]  # fmt: skip
    p = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)
    own = {"label": np.array(["no", "no"], object), "probabilities": p}
    served = outputs[0].served(own, classes["approve"])
    np.testing.assert_array_equal(served["approve"], [0.25, 0.5])
    back = outputs[0].own(served, classes["approve"])
    np.testing.assert_array_equal(back["probabilities"], p)
    amount = outputs[1].served({"value": np.array([1.0, 2.0], np.float32)}, None)["amount"]
    assert amount.dtype == np.float64


def test_an_output_of_no_label_cannot_be_trained() -> None:
    more = Signature(CHAMPION.inputs, (*CHAMPION.outputs, tensor("other", "FP32")))
    with pytest.raises(Rejected, match="output 'other' belongs to none of its labels"):
        outputs_of_champion(OFFERS, more)


def contexts(data: Dataset, folder: Path) -> FitContext:
    return FitContext("classification", input_tensors(data.features), 3, folder)


class OneForAll:
    """Trains the same trees as one model for each label."""

    name, joint, worse = "one-for-all", True, False

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> Any:
        del validation
        members = {}
        for label, of in context.labels.items():
            part = part_of(train, label)
            if self.worse:
                part = part.slice(0, 30)
            alone = FitContext(of.task, context.inputs, 3, context.checkpoints, of.classes, 5)
            members[label] = GradientBoosting().fit(part, None, alone)
        return FittedTogether(members, 5)


class Worse(OneForAll):
    name, worse = "worse", True


class FewTrees(GradientBoosting):
    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> Any:
        few = FitContext(context.task, context.inputs, 3, context.checkpoints, context.classes, 1)
        return super().fit(train.slice(0, 60), None, few)


@pytest.mark.parametrize(
    ("alone", "joint", "chosen"),
    [(FewTrees(), OneForAll(), "one-for-all"), (GradientBoosting(), Worse(), EACH)],
)
def test_one_model_for_all_or_for_each_whichever_validates_better(
    tmp_path: Path, alone: Any, joint: Any, chosen: str
) -> None:
    data = both(without_score=0.2)
    parts = split(data, FAST, None)
    classes: Mapping[str, Any] = {"level": np.arange(3), "score": None}
    outputs = with_label_classes(new_outputs(SPEC, data.features.column_names), classes)
    found = search_together(
        SPEC, outputs, classes, parts, [alone, joint], contexts(data, tmp_path),
        lambda done, words: None, FAST,
    )  # fmt: skip
    assert found.family == chosen
    assert set(found.members) == {"level", "score"}
    lost = found.record["losses"]
    assert (lost[joint.name] < lost[EACH]) is (chosen != EACH)
    assert found.record["counts"] == {"level": 1, "score": 1, TOGETHER: 1}
    assert found.held["score"].rows == len(found.answers["score"]["value"])
    assert found.held["score"].rows < found.held["level"].rows


def test_a_network_of_several_labels_is_one_graph_with_its_first_layers_once(
    tmp_path: Path,
) -> None:
    from driftloop_retrain.tabular.inference import outputs_of
    from driftloop_retrain.tabular.recipes.port import LabelOf
    from driftloop_retrain.tabular.several.model import ServedTogether

    data = both(rows=900, without_score=0.3)
    train, held = data.slice(0, 700), data.slice(700, 900)
    classes: Mapping[str, Any] = {"level": np.arange(3), "score": None}
    context = FitContext(
        "classification", input_tensors(data.features), 3, tmp_path / "work",
        labels={n: LabelOf(TASKS[n], classes[n]) for n in TASKS},
    )  # fmt: skip
    fitted = MultiTaskNetwork(max_epochs=40).fit(train, held, context)
    outputs = new_outputs(SPEC, data.features.column_names)
    ServedTogether(outputs, fitted.members, classes).export(tmp_path / "made")
    graph, native = OnnxModel(tmp_path / "made"), fitted.predict(held.features)
    answers = outputs_of(graph, held.features)
    np.testing.assert_allclose(answers["score"], native["score.value"], rtol=1e-4, atol=1e-4)
    assert (answers["level"] == of_member(native, "level")["label"]).all()
    assert (answers["level"] == held.label("level")).mean() > 0.6
    known = has_label(held, "score")
    wanted = held.label("score")[known]
    assert ((answers["score"][known] - wanted) ** 2).mean() < 0.5 * wanted.var()
    kinds = [n.op_type for n in onnx.load(tmp_path / "made" / "model.onnx").graph.node]
    assert (kinds.count("Gemm"), kinds.count("LabelEncoder")) == (2 + 2, 1)


def train(folder: Path, data: Dataset, **options: Any) -> dict[str, Any]:
    table = data.features
    kinds = {"level": pa.int64(), "score": pa.float64()}
    for name, kind in kinds.items():
        column = pa.array(data.label(name).tolist(), kind, from_pandas=True)
        table = table.append_column(name, column)
    pq.write_table(table, folder / "rows.parquet")
    arguments: dict[str, Any] = {
        "name": "m", "label": ["level", "score"], "task": {"score": "regression"},
        "output": folder / "out", "time_column": None, "drop": (),
        "families": ("gradient-boosting",), "say": lambda _: None,
    }  # fmt: skip
    settings = Settings(state_dir=folder, retrain=FAST)
    return train_first(settings, folder / "rows.parquet", **{**arguments, **options})


def test_a_first_version_of_several_labels_is_ready_to_be_deployed(tmp_path: Path) -> None:
    said: list[str] = []
    made = train(tmp_path, both(without_score=0.25), say=said.append)
    document = yaml.safe_load((tmp_path / "out" / "model.yaml").read_text())
    names = {"model": "model.onnx", "reference": "reference.parquet"}
    spec = ModelSpec.from_dict({k: v for k, v in document.items() if k not in names})
    graph = OnnxModel(tmp_path / "out")
    assert served_objectives(spec, graph.signature) == spec
    assert spec.labels == ("level", "score")
    assert [t.name for t in graph.signature.outputs] == ["level", "level_probabilities", "score"]
    assert any("of 600 rows have 'score'; each output learns from" in words for words in said)
    assert made["metrics"]["level accuracy"] > 0.6
    reference = pq.read_table(tmp_path / "out" / "reference.parquet")
    assert set(json.loads(reference["label"][0].as_py())) == {"level", "score"}
    judged = {m.label: m for m in labelled_metrics(spec, reference)}
    assert judged["level"].metrics["accuracy"].value == pytest.approx(
        made["metrics"]["level accuracy"]
    )
    assert 0 < judged["score"].rows < judged["level"].rows == reference.num_rows
    # The champion that was made can be trained again.
    assert [o.label for o in outputs_of_champion(spec, graph.signature)] == ["level", "score"]


def constant(data: Dataset, **columns: Any) -> Dataset:
    labels = data.labels.copy()
    for name, value in columns.items():
        labels[name] = value  # type: ignore[call-overload]
    return dataset_of(data.features, labels, data.at, data.source)


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"level": 1}, {}, "label 'level': all are 1, there is nothing to learn; leave it out"),
        ({"score": 2.0}, {}, "label 'score': all 600 labels are .*2.0.*: nothing to learn"),
        ({"score": np.nan}, {}, "label 'score': no row has one"),
        ({}, {"label": ["level", "amount"], "task": "classification"}, "no column 'amount'"),
        ({}, {"label": ["level", "level"]}, "the label 'level' is named twice"),
        ({}, {"task": {"amount": "regression"}}, "a task for 'amount', which is none of the"),
        ({}, {"task": {"score": "ranking"}}, "task 'ranking': must be classification or"),
        ({}, {"task": "classification"}, "label 'score': the label of a classification must be"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        train(tmp_path, constant(both(), **columns), **options)


def test_a_label_without_rows_in_a_part_is_named(tmp_path: Path) -> None:
    data = both()
    labels = data.labels.copy()
    labels["score"][100:] = np.nan  # type: ignore[call-overload]
    with pytest.raises(
        Rejected, match="label 'score': none of the 90 rows of the part 'validation'"
    ):
        train(tmp_path, dataset_of(data.features, labels, data.at, "example"))


def test_the_network_of_several_labels_is_not_for_one(tmp_path: Path) -> None:
    data = example("regression", 200)
    with pytest.raises(Rejected, match="trains several labels, and the model has one"):
        MultiTaskNetwork().fit(data, None, contexts(data, tmp_path))


def test_tasks_are_said_for_all_labels_or_for_one() -> None:
    assert tasks_said([]) == {}
    assert tasks_said(["regression"]) == "regression"
    assert tasks_said(["a=regression", "b=c=classification"]) == {
        "a": "regression", "b=c": "classification"
    }  # fmt: skip
    with pytest.raises(Rejected, match="name one task for all labels, or LABEL=TASK"):
        tasks_said(["regression", "a=classification"])
