"""What the store says becomes what is wrong, in two sentences for people."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alert_cases import performance_alert
from hostile_texts import HOSTILE

from driftloop_alerts.conditions import LONGEST, URGENCY, Condition, conditions, sentence
from driftloop_alerts.snapshot import FailingRoute, ModelSeen, RolloutSeen, Snapshot
from driftloop_contracts.alert import AlertState
from driftloop_contracts.health import Degraded
from driftloop_contracts.incident import Cause, Urgency
from driftloop_contracts.judgement import CheckKind, Decision, Finding, Severity, Window
from driftloop_contracts.retrain import Retrain, RetrainState

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def found(model: ModelSeen | None = None, **seen: Any) -> list[Condition]:
    models = {model.name: model} if model else {}
    return conditions(Snapshot(now=NOW, models=models, **seen))


def window(number: int = 1, **changes: Any) -> Window:
    fields = {
        "window_id": f"w{number}", "model": "m", "kind": "count", "lake_version": 1,
        "started_at": NOW - HOUR, "ended_at": NOW, "rows": 500, "labelled": 0, "status": "judged",
    }  # fmt: skip
    return Window(**{**fields, **changes})


def drift_of(column: str, effect: float) -> Finding:
    return Finding(
        finding_id=column, model="m", version=1, kind=CheckKind.DRIFT, check="psi",
        severity=Severity.WARNING, columns=(column,), effect=effect, significance=0.0,
        window_id="w1", at=NOW,
    )  # fmt: skip


def retrain(number: int, state: RetrainState, **changes: Any) -> Retrain:
    return Retrain(id=f"r{number}", model="m", at=NOW - number * HOUR, state=state, **changes)


def test_nothing_is_wrong_with_a_healthy_model() -> None:
    model = ModelSeen(name="m", windows=(window(),), labels_wait_s=60.0)
    assert found(model) == []


def test_an_alert_says_what_happened_and_that_a_retrain_waits() -> None:
    decision = Decision(
        decision_id="d", model="m", at=NOW, trigger="alert", verdict="wait",
        reason="the error rose, but only 10 of 2000 fresh labels are there", evidence={}, policy={},
    )  # fmt: skip
    alert = performance_alert(NOW)
    (condition,) = found(ModelSeen(name="m", decision=decision), alerts=(alert,))
    assert condition.cause is Cause.PERFORMANCE
    assert condition.happened == "worse."
    assert "No retrain starts yet: the error rose, but only 10 of 2000" in condition.next
    running = ModelSeen(name="m", retrains=(retrain(1, RetrainState.RUNNING),))
    (condition,) = found(running, alerts=(replace(alert, state=AlertState.ACKNOWLEDGED),))
    assert condition.acknowledged
    assert "A retrain is in progress since 2026-11-24 11:00 UTC" in condition.next


def test_an_expected_rise_says_that_labels_decide() -> None:
    alert = performance_alert(NOW, kind=CheckKind.ESTIMATE)
    (condition,) = found(ModelSeen(name="m"), alerts=(alert,))
    assert (condition.cause, condition.urgency) == (Cause.ESTIMATE, Urgency.PAGE)
    assert condition.next.startswith("Only labels prove it: driftloop retrains once they do")


def test_more_findings_of_an_alert_are_new_evidence() -> None:
    alert = performance_alert(NOW)
    (before,), (after,) = found(alerts=(alert,)), found(alerts=(alert.attach(["g"]),))
    assert before.key != after.key


def test_lost_predictions_are_told_and_sampled_ones_are_not() -> None:
    sampled = window(dropped={"sampled": 900})
    assert found(ModelSeen(name="m", windows=(sampled,))) == []
    lost = window(dropped={"sampled": 900, "quota": 1_200}, unexplained=3)
    (condition,) = found(ModelSeen(name="m", windows=(lost,)))
    assert condition.cause is Cause.CAPTURE_LOSS
    assert "1,200 rows (quota), 3 rows for no known reason" in condition.happened


def test_three_windows_in_a_row_that_cannot_be_judged_are_told() -> None:
    doubtful = [window(n, status="inconclusive", reason="too few rows") for n in (3, 2, 1)]
    (condition,) = found(ModelSeen(name="m", windows=tuple(doubtful)))
    assert (condition.cause, condition.key) == (Cause.INCONCLUSIVE, "w3")
    assert found(ModelSeen(name="m", windows=tuple(doubtful[:2]))) == []
    assert found(ModelSeen(name="m", windows=(window(4), *doubtful))) == []


def test_drift_of_many_columns_names_the_worst() -> None:
    columns = tuple(drift_of(f"c{n}", effect=n / 10) for n in range(50))
    (condition,) = found(ModelSeen(name="m", drifted=columns))
    assert "50 columns drifted from the reference: c49, c48, c47 and 47 more." in condition.happened


def test_a_rollback_is_told_for_a_day() -> None:
    rollout = RolloutSeen(
        id="r", state="rolled_back", version=3, reason="worse", changed_at=NOW - HOUR
    )
    (condition,) = found(ModelSeen(name="m", rollout=rollout))
    assert condition.happened == "m: version 3 was rolled back: worse."
    old = replace(rollout, changed_at=NOW - 25 * HOUR)
    assert found(ModelSeen(name="m", rollout=old)) == []


def test_a_rollout_that_is_paused_for_long_waits_for_a_person() -> None:
    paused = RolloutSeen(
        id="r", state="paused", version=3, reason="", changed_at=NOW - 2 * HOUR,
        deadline_at=NOW + HOUR,
    )  # fmt: skip
    (condition,) = found(ModelSeen(name="m", rollout=paused))
    assert (condition.cause, condition.subject) == (Cause.APPROVAL, "r")
    assert "at its deadline at 2026-11-24 13:00 UTC" in condition.next
    assert found(ModelSeen(name="m", rollout=replace(paused, changed_at=NOW))) == []


def test_what_waits_for_an_approval_is_a_ticket_at_once() -> None:
    waits = RolloutSeen(
        id="r", state="running", version=3, reason="the promotion is proven", changed_at=NOW,
        awaits="promote",
    )  # fmt: skip
    (condition,) = found(ModelSeen(name="m", rollout=waits))
    assert (condition.cause, condition.urgency) == (Cause.APPROVAL, "ticket")
    assert "the promotion is proven" in condition.happened
    assert "`driftloop rollout approve m`" in condition.next


def test_one_failed_retrain_is_not_told_and_two_in_a_row_are() -> None:
    error = "Traceback\n  boom\nValueError: no rows"
    failed = [retrain(n, RetrainState.FAILED, error=error) for n in (1, 2)]
    between = retrain(2, RetrainState.SUCCEEDED)
    assert found(ModelSeen(name="m", retrains=(failed[0], between, failed[1]))) == []
    running = retrain(0, RetrainState.RUNNING)
    (condition,) = found(ModelSeen(name="m", retrains=(running, *failed)))
    assert condition.happened == "m: the last 2 retrains failed: ValueError: no rows."


def test_labels_that_are_late_and_a_schedule_that_was_missed_are_tickets() -> None:
    model = ModelSeen(name="m", labels_wait_s=86_000.0, missed_at=NOW - HOUR)
    late, missed = found(model)
    assert "wait for their labels for 24 hours" in late.happened
    assert "scheduled for 2026-11-24 11:00 UTC" in missed.happened
    assert {URGENCY[c.cause] for c in (late, missed)} == {"ticket"}


def test_roles_and_routes_that_fail_are_told_apart() -> None:
    degraded = (Degraded("archiver", NOW, "no broker"), Degraded("monitor", NOW, "broken", "m"))
    failing = (FailingRoute("night", NOW, "it answers 500"),)
    conditions_ = found(degraded=degraded, routes=failing)
    assert [(c.model, c.cause, c.subject) for c in conditions_] == [
        ("", Cause.ROLE, "archiver"),
        ("m", Cause.ROLE, "monitor"),
        ("", Cause.ROUTE, "night"),
    ]
    assert "no broker" in conditions_[0].happened


def test_a_role_that_hangs_is_not_said_to_try_again() -> None:
    failing, hanging = (
        Degraded("monitor", NOW, "broken"),
        Degraded("monitor/cycle", NOW, "it hangs"),
    )
    assert ["tries again" in c.next for c in found(degraded=(failing, hanging))] == [True, False]


def test_a_window_that_was_given_up_is_a_ticket() -> None:
    alert = replace(performance_alert(NOW), kind=CheckKind.UNJUDGED)
    (condition,) = found(ModelSeen(name="m"), alerts=(alert,))
    assert condition.cause is Cause.INCONCLUSIVE
    assert "later ones are judged" in condition.next


def test_every_cause_has_an_urgency() -> None:
    assert set(URGENCY) == set(Cause)


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 100_000, "<script>\n\r\tboom 🔥"])
def test_a_sentence_is_one_bounded_line(text: str) -> None:
    said = sentence(text)
    assert len(said) <= LONGEST + 2
    assert len(said.splitlines()) <= 1
