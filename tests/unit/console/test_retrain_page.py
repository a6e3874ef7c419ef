"""What the page of a retrain says of its data."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from driftloop_console.views.retrain_page import (
    attempts_table,
    data_checks,
    evidence,
    gate_table,
    trials_table,
)
from driftloop_contracts.retrain import Retrain, RetrainState


def retrain(result: dict[str, Any] | None) -> Retrain:
    return Retrain(id="r", model="loans", at=datetime(2026, 11, 29, tzinfo=UTC), result=result)


def test_what_was_left_out_is_counted_by_reason() -> None:
    checks = {
        "rows": 2_000, "left_out": {"age is above 120": 1_003}, "repeated": 4, "classes": {},
        "warnings": ["a", "b"], "suspected_labels": {"rows": 1_700, "suspected": 11},
    }  # fmt: skip
    assert data_checks(retrain({"data_checks": checks})) == {
        "Left out: age is above 120": "1,003",
        "Repeat an earlier row": "4",
        "Labels that are probably wrong": "11 of 1,700 looked at",
        "Warnings": "a; b",
    }


def test_what_the_trigger_saw_is_in_words() -> None:
    saw = {
        "alert": True, "rise": 0.0327624627, "labels": 31_100, "drifted": ["age", "income"],
        "change_at": "2026-11-29T12:00:00.5+00:00", "schedule_due": None, "active_retrain": "r1",
    }  # fmt: skip
    assert evidence({"evidence": saw}) == {
        "alert": "yes", "rise": "0.03276", "labels": "31,100", "drifted": "age, income",
        "change at": "2026-11-29 12:00:00 UTC", "active retrain": "r1",
    }  # fmt: skip


def test_attempts_lead_to_their_pages_and_say_why_they_failed() -> None:
    failed = replace(
        retrain(None), state=RetrainState.FAILED, reasons=("train: out of memory", "no version")
    )
    table = attempts_table([failed, replace(retrain(None), id="s", attempt=2)])
    assert [row["attempt"] for row in table.rows] == [1, 2]
    assert table.rows[0]["why"] == "train: out of memory; no version"
    href = table.columns[0].href
    assert href is not None
    assert href(table.rows[1]) == "/retrains/s"


def test_trials_are_listed_best_first_and_the_gate_has_intervals() -> None:
    trials = [
        {"family": "linear", "span": "all", "parameters": "C=1", "rounds": 9, "seconds": 0.5,
         "mean_loss": 0.2, "over_champion": -0.1},
        {"family": "forest", "span": "newest", "parameters": "as they are", "rounds": 50,
         "seconds": 4.0, "mean_loss": 0.1, "over_champion": 0.02, "over_champion_low": 0.01,
         "over_champion_high": 0.03},
    ]  # fmt: skip
    check = {"name": "overall", "passed": True, "low": 0.01, "high": 0.03}
    found = retrain({"trials": trials, "gate": {"checks": [check]}})
    assert [row["family"] for row in trials_table(found).records()] == ["forest", "linear"]
    assert trials_table(found).records()[1]["over_champion_low"] is None
    (judged,) = gate_table(found).records()
    assert (judged["low"], judged["high"]) == (0.01, 0.03)
    assert trials_table(retrain(None)).rows == []


def test_a_retrain_that_checked_nothing_says_nothing() -> None:
    assert data_checks(retrain(None)) == {}
    assert data_checks(retrain({"gate": {}})) == {}
