"""The stage `data`: rows that are left out, data sets that fail, and what is reported."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.training_rules import parse_training_rules
from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.tabular.data_checks import DataUnfit, checked, suspected_labels
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, input_tensors
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.recipes.check import example
from driftloop_settings import RetrainSettings

SETTINGS = RetrainSettings()


def rules(**inputs: dict[str, Any]) -> Any:
    return parse_training_rules({"inputs": {name: {"train": r} for name, r in inputs.items()}})


def with_column(data: Dataset, name: str, values: Any) -> Dataset:
    return replace(data, features=data.features.append_column(name, pa.array(values)))


def test_clean_rows_pass_and_are_described() -> None:
    data = example("classification")
    rows, report = checked(data, "classification", {}, SETTINGS)
    assert rows is data
    assert report.to_dict()["left_out"] == {}
    assert sum(report.classes.values()) == data.rows
    assert report.warnings == ()


def test_rows_that_break_a_rule_are_left_out_and_counted_by_reason() -> None:
    data = example("classification")
    wanted = rules(count={"min": 1, "max": 7}, kind={"values": ["a", "b", ""]})
    rows, report = checked(data, "classification", wanted, replace_left_out(0.9))
    count = data.features["count"].to_numpy()
    assert report.left_out["count is below 1"] == (count < 1).sum()
    assert report.left_out["count is above 7"] == (count > 7).sum()
    assert "kind is another value than listed" in report.left_out
    assert rows.rows == data.rows - sum(report.left_out.values())
    assert set(rows.features["kind"].to_pylist()) == {"a", "b", ""}
    assert len(rows.labels) == len(rows.at) == len(rows.weights) == rows.rows


def replace_left_out(share: float) -> RetrainSettings:
    return RetrainSettings(max_left_out=share)


def test_infinite_numbers_are_left_out_and_missing_ones_stay() -> None:
    data = example("regression")
    size = data.features["size"].to_numpy().copy()
    size[3] = np.inf
    data = replace(data, features=data.features.set_column(0, "size", pa.array(size)))
    rows, report = checked(data, "regression", {}, SETTINGS)
    assert report.left_out == {"size is infinite": 1}
    assert np.isnan(rows.features["size"].to_numpy()).any()


def test_too_many_bad_rows_fail_with_reason_and_rows() -> None:
    with pytest.raises(DataUnfit, match=r"count is above 2: .*rows \d+, .*max_left_out"):
        checked(example("classification"), "classification", rules(count={"max": 2}), SETTINGS)
    with pytest.raises(Rejected, match=r"size is missing in .*first: row \d+.*5.0% are allowed"):
        checked(example("regression"), "regression", rules(size={"missing": 0.05}), SETTINGS)
    with pytest.raises(Rejected, match="'age', which is not an input"):
        checked(example("regression"), "regression", rules(age={"max": 1}), SETTINGS)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"max": "9"}, "not a number"),
        ({"most": 9}, "mapping of min"),
        ({"min": 2, "max": 1}, "above train.max"),
        ({"missing": 2}, "share"),
        ({"values": []}, "list of values"),
    ],
)
def test_a_rule_that_cannot_be_understood_is_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(Rejected, match=words):
        rules(age=rule)


Column = Callable[[np.ndarray], Any]


@pytest.mark.parametrize(
    ("task", "column", "words"),
    [
        ("classification", lambda y: y, "equals the label"),
        ("classification", lambda y: np.array(["x", "y", "z"])[y].tolist(), "other words"),
        ("regression", lambda y: y.astype(np.float32), "equals the label"),
        ("regression", lambda y: 3.6 * y + 2, "another unit"),
    ],
)
def test_a_column_that_equals_the_label_fails(task: Any, column: Column, words: str) -> None:
    data = example(task)
    leaky = with_column(data, "outcome", column(data.labels))
    with pytest.raises(DataUnfit, match=rf"column 'outcome' .*{words}.*1,200 rows"):
        checked(leaky, task, {}, SETTINGS)
    _, report = checked(leaky, task, {}, RetrainSettings(leaks="warn"))
    assert "'outcome'" in report.warnings[0]


def test_a_good_column_is_no_leak() -> None:
    data = example("classification")
    nearly = data.labels.copy()
    nearly[0] = (nearly[0] + 1) % 3
    ids = [f"customer {i}" for i in range(data.rows)]
    checked(with_column(data, "nearly", nearly), "classification", {}, SETTINGS)
    checked(with_column(data, "id", ids), "classification", {}, SETTINGS)


def test_times_after_the_prediction_are_named() -> None:
    data = example("regression")
    at = np.datetime64("2026-11-01", "us") + np.arange(data.rows).astype("timedelta64[s]")
    asked = at.astype(np.float64) / 1e6
    data = with_column(replace(data, at=at), "closed_at", asked + 30 * 86_400)
    data = with_column(data, "born_at", asked - 1e8)
    _, report = checked(data, "regression", {}, SETTINGS)
    assert len(report.warnings) == 1
    assert "'closed_at' holds times after the prediction" in report.warnings[0]


def test_labels_that_teach_nothing_fail() -> None:
    data = example("regression")
    with pytest.raises(DataUnfit, match="nothing to learn"):
        checked(replace(data, labels=np.ones(data.rows)), "regression", {}, SETTINGS)
    with pytest.raises(DataUnfit, match="1,200 classes in 1,200 rows"):
        checked(replace(data, labels=np.arange(data.rows)), "classification", {}, SETTINGS)


def test_repeated_rows_are_counted_and_kept() -> None:
    data = example("classification", rows=400)
    twice = dataset_of(
        pa.concat_tables([data.features] * 2),
        np.tile(data.labels, 2),
        np.arange(800).astype("datetime64[us]"),
        "twice",
    )
    rows, report = checked(twice, "classification", {}, SETTINGS)
    assert rows.rows == 800
    assert report.repeated >= 400
    assert "repeat an earlier one" in report.warnings[0]


def test_labels_that_were_swapped_are_suspected(tmp_path: Path) -> None:
    data = example("classification", rows=1_500)
    labels = data.labels.copy()
    sure = np.flatnonzero((labels == 0) & (data.features["size"].to_numpy() < -1.0))[:30]
    labels[sure] = 2
    context = FitContext("classification", input_tensors(data.features), 0, tmp_path)
    found = suspected_labels(replace(data, labels=labels), context)
    assert found is not None
    assert found["rows"] == 1_500
    assert len(set(found["examples"]) & set(sure.tolist())) >= 5
    assert suspected_labels(data.slice(0, 100), context) is None


def test_a_data_set_that_fails_stops_the_retrain_and_changes_nothing(
    context: RetrainContext, lake: Any, ask: Callable[..., str]
) -> None:
    labels = lake.table["label_number"]
    lake.table = lake.table.set_column(
        lake.table.column_names.index("in_count"), "in_count", labels.cast(pa.int64())
    )
    retrain_id = ask()
    assert run_retrain(context, retrain_id) == "failed"
    record = context.store.retrain(retrain_id)
    assert record.reasons[0].startswith("data: column 'count' equals the label in all 2,000 rows")
    assert context.registry.aliases("loans") == {}
    assert context.store.rollouts("loans") == []


def test_the_record_says_what_was_left_out(context: RetrainContext, ask: Any) -> None:
    deployment = context.store.require_deployment("loans")
    options = {"inputs": {"count": {"train": {"max": 7}}}}
    context.store.put_deployment(
        replace(deployment, model=replace(deployment.model, options=options))
    )
    retrain_id = ask()
    assert run_retrain(context, retrain_id) == "succeeded"
    result = context.store.retrain(retrain_id).result
    found = result["data_checks"]
    assert found["rows"] == 2_000
    assert found["left_out"] == {"count is above 7": 2_000 - result["rows"]}
    assert found["suspected_labels"]["rows"] > 500
