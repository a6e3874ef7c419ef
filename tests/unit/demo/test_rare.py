"""The data of the demo's rare class, what is counted of it, and the weights of its recipe."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import TensorSpec
from driftloop_demo.data_set import DRIFT_ROW, LiveRows, live_rows, loans, write_reference
from driftloop_demo.rare import KEPT_ROWS, LABEL, SHARE, Costly, rare_table, with_objective
from driftloop_demo.traffic import Tally
from driftloop_retrain.tabular.dataset import Dataset, dataset_of
from driftloop_retrain.tabular.recipes.port import FitContext

TABLE = rare_table(loans())


def spans() -> list[np.ndarray]:
    """Which rows are before and which after the drift."""
    after = TABLE["id"].to_numpy() >= DRIFT_ROW
    return [~after, after]


def test_at_most_one_row_in_200_is_positive_in_each_part() -> None:
    positive = TABLE[LABEL].to_numpy() == 1
    for rows in spans():
        assert 0.9 * SHARE < positive[rows].mean() <= SHARE


def test_the_drift_brings_positives_that_were_never_seen_before() -> None:
    debt, length = (TABLE[name].to_numpy() for name in ("debt_to_income_ratio", "loan_length"))
    positive, later = TABLE[LABEL].to_numpy() == 1, (debt > 0.49) & (length <= 7.5)
    before, after = spans()
    assert not later[positive & before].any()
    assert later[positive & after].all()
    # such rows were seen before: they are negatives
    assert later[~positive & before].sum() > 1_000


def test_no_row_comes_twice_and_the_order_stays() -> None:
    assert (np.diff(TABLE["id"].to_numpy()) > 0).all()


def test_the_label_is_sent_later_and_is_no_input(tmp_path: Path) -> None:
    rows: LiveRows = live_rows(TABLE, LABEL)
    write_reference(TABLE, tmp_path / "reference.parquet")
    reference = pq.read_table(tmp_path / "reference.parquet")
    assert reference.num_rows + len(rows.labels) == TABLE.num_rows
    names = {tensor["name"] for tensor in rows.request(0, 3)["inputs"]}
    assert names.isdisjoint((LABEL, "repaid"))
    assert len(names) == 7
    live = TABLE.filter(pc.equal(TABLE["part"].cast("string"), "live"))
    assert live["id"][rows.drift_at - 1].as_py() < DRIFT_ROW <= live["id"][rows.drift_at].as_py()
    # after the drift there are rows to train on, and others to measure the new version on
    assert sum(rows.labels[rows.drift_at : -KEPT_ROWS]) > 30
    assert sum(rows.labels[-KEPT_ROWS:]) > 15


def test_a_recall_that_collapses_is_counted_beside_an_accuracy_that_does_not() -> None:
    tally = Tally()
    tally.count([0] * 199 + [1], [0] * 199 + [1])
    assert (tally.accuracy, tally.recall) == (1.0, 1.0)
    tally = Tally()
    assert tally.recall is None
    tally.count([0] * 200, [0] * 199 + [1])
    assert (tally.accuracy, tally.recall) == (pytest.approx(0.995), 0.0)


def test_the_trained_spec_is_judged_by_cost_and_retrained_by_the_recipe(tmp_path: Path) -> None:
    spec = tmp_path / "model.yaml"
    trained = ModelSpec("car_loan", "classification", "label", "tabular").to_dict()
    spec.write_text(yaml.safe_dump(trained | {"model": "model.onnx"}))
    with_objective(spec)
    document = yaml.safe_load(spec.read_text())
    assert document.pop("model") == "model.onnx"
    found = ModelSpec.from_dict(document)
    assert found.objective is not None
    assert found.objective.metric == "cost"
    assert found.recipe == "driftloop_demo.rare:Costly"


def test_the_new_kind_is_learned_though_the_rows_after_the_drift_repeat(tmp_path: Path) -> None:
    """As they do on a slow machine, where a retrain takes longer than they last."""
    live = TABLE.filter(pc.equal(TABLE["part"].cast("string"), "live"))
    rows = live_rows(TABLE, LABEL)
    labels, end = np.array(rows.labels), len(rows.labels) - KEPT_ROWS
    features = live.select(list(rows.features))
    inputs = tuple(TensorSpec(n, kind, (-1, 1)) for n, (kind, _) in rows.features.items())

    def data(chosen: np.ndarray) -> Dataset:
        at = np.arange(len(chosen)).astype("datetime64[us]")
        return dataset_of(features.take(pa.array(chosen)), labels[chosen], at, "demo")

    again = np.tile(np.arange(end - KEPT_ROWS, end), 2)
    context = FitContext("classification", inputs, 0, tmp_path, classes=np.array([0, 1]))
    fitted = Costly().fit(data(np.concatenate([np.arange(end), again])), data(again), context)
    answers = fitted.predict(features.slice(end))["label"]
    truth = labels[end:]
    assert answers[truth == 1].mean() > 0.6
    assert answers[truth == 0].mean() < 0.02
