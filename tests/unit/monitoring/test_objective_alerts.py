"""The monitor by a model's own objective: rare classes, slices, and what cannot be judged."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from driftloop_contracts.judgement import CheckKind
from driftloop_contracts.model import ModelSpec
from driftloop_lake.capture_loss import CaptureLoss
from driftloop_monitoring.state.alert_actions import RaiseAlert
from driftloop_monitoring.state.judging_policy import JudgingPolicy
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference, reference_of
from driftloop_monitoring.statistics.drift import DriftRule
from driftloop_monitoring.statistics.performance import Rule
from driftloop_monitoring.statistics.windows import Cut
from driftloop_monitoring.watch.judgement import (
    ClosedWindow,
    Judgement,
    judge_labels,
    judge_window,
)

START = datetime(2026, 11, 24, tzinfo=UTC)
POLICY = JudgingPolicy(
    performance=Rule(margin=0.01, run_length=1e7, rhythm=False),
    drift=DriftRule(effect=0.1, significance=0.001),
    label_coverage=0.95,
    timeout_s=86_400.0,
    reference_rows=1_500,
)


def spec(**more: Any) -> ModelSpec:
    value = {"name": "loans", "task": "classification", "output": "label", **more}
    return ModelSpec.from_dict(value)


def rows(truth: Any, answer: Any, tenure: Any) -> pa.Table:
    """A row a second."""
    n = len(truth)
    at = START.timestamp() * 1e6 + 1e6 * np.arange(n)
    return pa.table(
        {
            "prediction_id": [str(i) for i in range(n)],
            "row": pa.array(np.zeros(n), pa.int32()),
            "predicted_at": pa.array(at.astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
            "in_tenure": pa.array(tenure),
            "out_label": pa.array(answer, pa.int64()),
            "label": pa.array(truth.astype(int)).cast(pa.string()),
            "label_number": pa.array(truth, pa.float64()),
        }
    )


def rare(n: int, recall: float, seed: int) -> pa.Table:
    """.1 % positives, of which a share is found; of the others .5 % are called positive."""
    r = np.random.default_rng(seed)
    truth = r.random(n) < 0.001
    answer = np.where(truth, r.random(n) < recall, r.random(n) < 0.005)
    return rows(truth, answer, r.integers(0, 10, n))


def with_slice(n: int, error: float, in_slice: float, seed: int) -> pa.Table:
    """A tenth of the rows has a tenure of 0."""
    r = np.random.default_rng(seed)
    truth, tenure = r.random(n) < 0.5, r.integers(0, 10, n)
    wrong = r.random(n) < np.where(tenure < 1, in_slice, error)
    return rows(truth, truth ^ wrong, tenure)


def judged(known: Reference, table: pa.Table) -> Judgement:
    state = MonitorState(1, START)
    later = START + timedelta(days=30)
    return judge_labels(state, known, table, later, POLICY, 7)


def test_a_recall_that_collapses_alerts_though_accuracy_hardly_moves() -> None:
    cost = {"metric": "cost", "false_positive": 1, "false_negative": 20, "margin": "50%"}
    past, now = rare(100_000, 0.8, 1), rare(150_000, 0.2, 2)
    plain = judged(reference_of(spec(), past, live=False), now)
    assert plain.alerts == ()
    known = reference_of(spec(objective=cost), past, live=False)
    assert judged(known, rare(150_000, 0.8, 3)).alerts == ()
    (alert,) = judged(known, now).alerts
    assert isinstance(alert, RaiseAlert)
    assert "the cost per row rose from 0.00" in alert.message


def test_a_slice_that_gets_worse_alerts_and_is_named() -> None:
    own = spec(slices=[{"new": "tenure < 1"}, {"none": "tenure > 99"}])
    known = reference_of(own, with_slice(20_000, 0.1, 0.1, 1), live=False)
    assert known.few == ("slice none (0 rows)",)
    assert judged(known, with_slice(20_000, 0.1, 0.1, 2)).alerts == ()
    found = judged(known, with_slice(20_000, 0.07, 0.25, 3))
    (alert,) = found.alerts
    assert isinstance(alert, RaiseAlert)
    assert "error rate (slice new) rose from" in alert.message
    assert found.state.risen is not None
    assert found.state.risen[0] == "slice new"
    assert MonitorState.from_dict(found.state.to_dict()) == found.state
    baseline, margin = known.normal("slice new")
    assert baseline is not None
    assert (round(baseline.mean, 1), margin) == (0.1, None)


def never(labels: Any, outputs: Any) -> Any:
    raise RuntimeError("away")


def late(labels: Any, outputs: Any) -> Any:
    """Leaves [0, 1] where the answer is 1 and the label 7."""
    return np.where(labels == 7, 2.0, (labels != outputs["label"]).astype(float))


def closed(table: pa.Table) -> ClosedWindow:
    return ClosedWindow(
        rows=table, cut=Cut("count", table.num_rows, ""), loss=CaptureLoss(), lake_version=7
    )


def test_an_objective_that_fails_makes_the_window_inconclusive_with_a_finding() -> None:
    table = with_slice(2_000, 0.1, 0.1, 1)
    sevens = table.set_column(6, "label_number", pa.array(np.full(2_000, 7.0)))
    for name, now, why in (
        ("never", table, "raised RuntimeError: away"),
        ("late", sevens, "[0, 1]"),
    ):
        known = reference_of(spec(objective=f"{__name__}:{name}"), table, live=False)
        found = judge_window(MonitorState(1, START), known, closed(now), POLICY, lambda *_: 0.0)
        assert found.window is not None
        assert found.window.status == "inconclusive"
        assert why in found.window.reason
        (finding,) = found.findings
        assert (finding.kind, finding.check) == (CheckKind.PERFORMANCE, "objective")
        assert judged(known, now).alerts == ()


OFFERS = {
    "objective": [
        {"metric": "error", "label": "approve", "output": "label"},
        {"metric": "absolute", "label": "amount", "output": "amount"},
    ]
}


def offered(n: int, off: float, seed: int, amounts: int | None = None) -> pa.Table:
    """approve is wrong in a tenth of the rows, the amount by about `off`; the first `amounts` rows
    have a label of it."""
    r = np.random.default_rng(seed)
    truth = r.random(n) < 0.5
    table = rows(truth, truth ^ (r.random(n) < 0.1), r.integers(0, 10, n))
    table = table.append_column("out_amount", pa.array(r.normal(300, off, n)))
    labels = [{"approve": int(v), "amount": 300} for v in truth]
    for label in labels[amounts:] if amounts is not None else ():
        del label["amount"]
    texts = pa.array([json.dumps(label) for label in labels])
    return table.set_column(5, "label", texts).set_column(6, "label_number", pa.nulls(n))


def test_an_output_whose_error_rises_alerts_and_is_named() -> None:
    known = reference_of(spec(**OFFERS), offered(5_000, 10, 1), live=False)
    assert judged(known, offered(5_000, 10, 2)).alerts == ()
    found = judged(known, offered(5_000, 14, 3))
    (alert,) = found.alerts
    assert isinstance(alert, RaiseAlert)
    assert "version 1: the absolute error (amount) rose from 7.951 to 1" in alert.message
    assert found.state.risen is not None
    assert found.state.risen[0] == "absolute amount"


def test_rows_wait_for_the_labels_of_all_outputs() -> None:
    known = reference_of(spec(**OFFERS), offered(5_000, 10, 1), live=False)
    table = offered(5_000, 10, 2, amounts=2_000)
    soon = judge_labels(MonitorState(1, START), known, table, START, POLICY, 7).state
    assert soon.test.rows == 2_000
    assert soon.tests["absolute amount"].rows == 2_000
    # after the timeout they are judged by the labels that they have
    old = judge_labels(soon, known, table[2_000:], START + timedelta(days=9), POLICY, 7).state
    assert old.test.rows == 5_000
    assert old.tests["absolute amount"].rows == 2_000
