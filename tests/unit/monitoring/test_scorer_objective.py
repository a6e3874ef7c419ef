"""A language model whose objective is the spec's scorer, or ratings: what the monitor tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.judgement import CheckKind
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.served_objectives import served_objectives
from driftloop_monitoring.state.judging_policy import JudgingPolicy
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference, reference_of
from driftloop_monitoring.statistics.drift import DriftRule
from driftloop_monitoring.statistics.performance import Rule
from driftloop_monitoring.watch.judgement import Judgement, judge_labels, live_reference_rows

START = datetime(2026, 11, 24, tzinfo=UTC)
NOW = START + timedelta(hours=1)
POLICY = JudgingPolicy(
    performance=Rule(margin=0.05, run_length=1e7, rhythm=False),
    drift=DriftRule(effect=0.1, significance=0.001),
    label_coverage=0.95,
    timeout_s=86_400.0,
    reference_rows=1_500,
    rated_rows=200,
)


def polite(_: list[dict[str, Any]], answer: str) -> float:
    return float("please" in answer)


def outside(_: list[dict[str, Any]], answer: str) -> float:
    return 7.0


def spec(metric: str, scorer: str = "polite", **more: Any) -> ModelSpec:
    return ModelSpec.from_dict(
        {
            "name": "chat", "task": "generation", "output": "text", "runtime": "vllm",
            "objective": {"metric": metric}, "options": {"scorer": f"{__name__}:{scorer}"},
            **more,
        }
    )  # fmt: skip


def rows(n: int, rude: float, seed: int, rating: float | None = None) -> pa.Table:
    """An answer a second. rating: the share of answers that people like."""
    rng = np.random.default_rng(seed)
    at = (START.timestamp() + np.arange(n)) * 1e6
    texts = np.where(rng.random(n) < rude, "no", "yes please")
    ratings = [None] * n if rating is None else (rng.random(n) < rating).astype(float).tolist()
    return pa.table(
        {
            "prediction_id": [str(i) for i in range(n)],
            "row": pa.array(np.zeros(n), pa.int32()),
            "predicted_at": pa.array(at.astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
            "in_messages": ['[{"role": "user", "content": "Hi"}]'] * n,
            "in_parameters": ["{}"] * n,
            "in_operation": ["chat.completions"] * n,
            "out_text": texts.tolist(),
            "out_tool_calls": [""] * n,
            "out_finish_reason": ["stop"] * n,
            "label": pa.array([None if r is None else str(r) for r in ratings], pa.string()),
            "label_number": pa.array(ratings, pa.float64()),
        }
    )


def judged(known: Reference, table: pa.Table) -> Judgement:
    return judge_labels(MonitorState(1, START), known, table, NOW, POLICY, 7)


def test_answers_are_judged_by_the_scorer_at_once_and_without_labels() -> None:
    model = spec("scorer")
    first = rows(1_500, 0.1, 1)
    assert live_reference_rows(first, START, POLICY, labelled=True, labels=model.awaited) == 1_500
    known = reference_of(model, first, live=True)
    assert known.baseline is not None
    assert known.baseline.mean == pytest.approx(0.1, abs=0.03)
    assert not judged(known, rows(1_000, 0.1, 2)).alerts
    risen = judged(known, rows(1_000, 0.4, 3))
    (finding,) = risen.findings
    assert finding.kind is CheckKind.PERFORMANCE
    assert "the loss by options.scorer (1 - score) rose from" in str(risen.alerts[0])


def test_a_scorer_as_a_guardrail_alerts_beside_ratings() -> None:
    model = spec("rating", guardrails=[{"metric": "scorer", "margin": 0.1}])
    known = reference_of(model, rows(1_500, 0.1, 1, rating=0.8), live=True)
    risen = judged(known, rows(1_500, 0.6, 2, rating=0.8))
    assert next(f.detail for f in risen.findings).endswith("; scorer")
    assert not judged(known, rows(1_500, 0.6, 2)).findings  # it waits for ratings


def test_ratings_as_the_objective_alert_when_they_fall() -> None:
    known = reference_of(spec("rating"), rows(1_500, 0.1, 1, rating=0.9), live=True)
    assert not judged(known, rows(1_500, 0.1, 2, rating=0.9)).alerts
    fallen = judged(known, rows(1_500, 0.1, 3, rating=0.6))
    assert "the loss of ratings (1 - rating) rose from 0." in str(fallen.alerts[0])


def test_a_scorer_that_leaves_the_unit_interval_makes_rows_inconclusive() -> None:
    known = reference_of(spec("scorer", "outside"), rows(1_500, 0.1, 1), live=True)
    assert known.problem == "metric 'scorer': options.scorer gave 7: it must give 0 to 1"
    assert judged(known, rows(500, 0.1, 2)).alerts == ()


def test_the_metric_without_a_function_is_refused_at_deploy() -> None:
    with pytest.raises(Rejected, match="name the function"):
        served_objectives(spec("scorer", options={}), SIGNATURE)
    assert served_objectives(spec("scorer"), SIGNATURE).objective is not None
