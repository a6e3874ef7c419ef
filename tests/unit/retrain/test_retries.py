"""A retrain that failed is tried again, later and later, and not for ever."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from driftloop_contracts.retrain import Retrain, RetrainState
from driftloop_retrain.job.retries import RetryPolicy, retry_of

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
POLICY = RetryPolicy(retries=2, delay_s=300)
FAILED = Retrain(
    id="0f4f7e7e-4f6d-4a5e-9a57-000000000001",
    model="loans",
    at=NOW,
    state=RetrainState.FAILED,
    trigger="schedule",
    decision_id="d",
    change_at=NOW,
    recipes=("linear",),
    ended_at=NOW,
    reasons=("train: the disk is full",),
)


def after(seconds: float, **changes: Any) -> Retrain | None:
    return retry_of([replace(FAILED, **changes)], POLICY, NOW + timedelta(seconds=seconds))


def test_the_retry_keeps_what_was_asked_for_and_says_why() -> None:
    retry = after(300)
    assert retry is not None
    assert (retry.model, retry.attempt, retry.decision_id) == ("loans", 2, "d")
    assert (retry.trigger, retry.change_at, retry.recipes) == ("schedule", NOW, ("linear",))
    assert retry.reason == ("attempt 2 of 3, as the one before failed: train: the disk is full")
    assert retry.id == after(400).id != FAILED.id  # type: ignore[union-attr]


def test_each_further_retry_waits_four_times_as_long() -> None:
    assert after(299) is None
    assert after(1_199, attempt=2) is None
    assert after(1_200, attempt=2) is not None
    assert after(1e6, attempt=3) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"trigger": "operator"},
        {"retryable": False},
        {"attempt": 3},
        {"state": RetrainState.REJECTED},
        {"state": RetrainState.RUNNING},
    ],
)
def test_what_is_not_tried_again(changes: dict[str, Any]) -> None:
    assert after(5_000, **changes) is None


def test_a_failure_of_days_ago_is_left_to_the_next_decision() -> None:
    assert after(90_000) is None


def test_only_the_newest_retrain_counts() -> None:
    later = replace(FAILED, id="x", state=RetrainState.SUCCEEDED)
    assert retry_of([later, FAILED], POLICY, NOW + timedelta(hours=1)) is None
    assert retry_of([], POLICY, NOW) is None
