from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.loss_rule import LossRule
from driftloop_monitoring.state.judging_policy import MAX_UNRATED, JudgingPolicy, judging_policy
from driftloop_monitoring.statistics.drift import DriftRule
from driftloop_monitoring.statistics.performance import Rule
from driftloop_monitoring.watch.decisions import trigger_policy
from driftloop_monitoring.watch.trigger import TriggerEvidence, TriggerPolicy, evaluate
from driftloop_settings import Settings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CHAT = ModelSpec("chat", "generation", "text", "lora-sft", runtime="vllm")
JUDGING = JudgingPolicy(
    performance=Rule(margin=0.05, run_length=1e5),
    drift=DriftRule(effect=0.1, significance=0.001),
    label_coverage=0.95,
    timeout_s=300.0,
    reference_rows=1_000,
    rated_rows=200,
)


def rated(count: int, every: int) -> np.ndarray:
    return np.arange(count) % every == 0


def test_the_loss_of_an_answer_is_what_its_rating_lacks() -> None:
    table = pa.table(
        {"out_text": ["a", "b", "c", "d"], "label_number": pa.array([1.0, 0.25, None, 5.0])}
    )
    losses = LossRule(CHAT).losses(table)
    assert losses[:2].tolist() == [0.0, 0.75]
    assert np.isnan(losses[2:]).all()  # not rated; not on the scale


def test_the_reference_waits_for_enough_rated_answers() -> None:
    assert JUDGING.first_rows(999, rated(999, 1)) is None
    assert JUDGING.first_rows(1_000, rated(1_000, 2)) == 1_000
    assert JUDGING.first_rows(1_000, rated(1_000, 10)) is None
    assert JUDGING.first_rows(3_000, rated(3_000, 10)) == 1_991  # the 200th rated one
    assert JUDGING.first_rows(MAX_UNRATED, rated(MAX_UNRATED, 1_000)) == MAX_UNRATED


def test_a_model_without_a_task_waits_for_rows_only() -> None:
    plain = replace(JUDGING, rated_rows=None)
    assert plain.first_rows(1_000, rated(1_000, 1_000)) == 1_000


def test_ratings_have_a_policy_of_their_own() -> None:
    settings = Settings()
    chat, loans = (
        judging_policy(settings, CHAT),
        judging_policy(settings, ModelSpec("m", "classification", "y")),
    )
    assert (chat.timeout_s, chat.performance.margin) == (
        settings.llm.rating_age_s,
        settings.llm.rating_margin,
    )
    assert loans.timeout_s == settings.monitoring.label_timeout_s
    assert trigger_policy(settings, CHAT).min_corrections == settings.llm.min_corrections
    assert trigger_policy(settings, ModelSpec("m")).min_corrections is None


POLICY = TriggerPolicy(cooldown_s=3_600, min_fresh_labels=200, margin=0.05, min_corrections=150)
POOR = TriggerEvidence(champion=1, retrainable=True, corrections=150)


def test_enough_corrections_retrain_a_model_that_was_never_any_better() -> None:
    decision = evaluate(POOR, POLICY, NOW)
    assert decision is not None
    assert (decision.verdict, decision.trigger) == ("retrain", "corrections")
    assert "150 answers were corrected" in decision.reason


@pytest.mark.parametrize(
    ("change", "topic"),
    [
        ({"active_retrain": "r"}, "active_retrain"),
        ({"active_rollout": "r"}, "active_rollout"),
        ({"last_retrain_at": NOW}, "cooldown"),
        ({"retrainable": False}, "no_recipe"),
        ({"broken": ("empty",)}, "broken"),
    ],
)
def test_corrections_wait_for_what_an_alert_waits_for(
    change: dict[str, object], topic: str
) -> None:
    decision = evaluate(replace(POOR, **change), POLICY, NOW)  # type: ignore[arg-type]
    assert decision is not None
    assert (decision.verdict, decision.topic) == ("wait", topic)


def test_few_corrections_ask_for_nothing() -> None:
    assert evaluate(replace(POOR, corrections=149), POLICY, NOW) is None
    assert evaluate(POOR, replace(POLICY, min_corrections=None), NOW) is None
