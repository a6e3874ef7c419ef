"""One word and one sentence for how a model is, from its records."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from console_records import NOW, alert, monitor_state, served, waited, window

from driftloop_console.views.condition import Condition, ModelRecords, Word, condition
from driftloop_console.views.fleet import fleet_table
from driftloop_contracts.judgement import CheckKind
from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit
from driftloop_contracts.retrain import Retrain, RetrainEvent, Stage
from driftloop_settings import Settings

SPEC = ModelSpec("m", "classification", "y", recipe="tabular")
DEPLOYED = Deployment(SPEC, (served(1),), TrafficSplit(1))
FRESH = ModelRecords(deployment=DEPLOYED)
WATCHED = replace(FRESH, window=window("m", 0).to_dict(), monitor=monitor_state(NOW))
ROLLOUT = {
    "id": "r", "at": NOW.isoformat(), "state": "running", "candidate": {"version": 2},
    "steps": [0.05, 0.25, 0.5, 1.0], "step": 1, "weight": 0.25,
    "deadline_at": (NOW + timedelta(days=7)).isoformat(), "outlook": {"seconds_to_verdict": 7200.0},
}  # fmt: skip
RUNNING = replace(
    Retrain(id="t", model="m", at=NOW, reason="the error rose").after(RetrainEvent.START),
    started_at=NOW,
    progress=Stage("search", 0.4, "trial 2 of 5"),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def test_a_model_without_a_window_is_unwatched_and_says_when_that_ends(settings: Settings) -> None:
    found = condition(FRESH, settings)
    assert found.word is Word.UNWATCHED
    assert "first window closes after 2,000 rows or 1 h: send requests" in found.then


def test_a_model_that_does_well_says_by_how_much(settings: Settings) -> None:
    found = condition(WATCHED, settings)
    assert found.word is Word.HEALTHY
    assert "The error is 0.08, in the reference it was 0.08" in found.why
    assert "by 2026-11-29 13:00:00 UTC" in found.then


def test_in_the_first_week_it_is_said_that_a_rhythm_looks_like_a_rise(settings: Settings) -> None:
    record = window("m", 0).to_dict()
    record["performance"]["may_be_rhythm"] = 0.02312
    found = condition(replace(WATCHED, window=record), settings)
    assert "a rhythm looks like a rise: it must be larger by 0.0231" in found.then


def test_drift_alone_is_watched_and_names_the_columns(settings: Settings) -> None:
    found = condition(replace(WATCHED, monitor=monitor_state(NOW, ("income",))), settings)
    assert (found.word, "income" in found.why) == (Word.WATCHING, True)
    assert "Drift alone does not retrain" in found.then


def test_a_window_that_cannot_be_judged_is_watched_for_its_reason(settings: Settings) -> None:
    doubtful = replace(window("m", 0), status="inconclusive", reason="3 rows are unaccounted for")
    found = condition(replace(WATCHED, window=doubtful.to_dict()), settings)
    assert (found.word, "3 rows are unaccounted for" in found.why) == (Word.WATCHING, True)


def test_an_alert_says_why_driftloop_waits(settings: Settings) -> None:
    decision = waited("m").to_dict()
    found = condition(replace(WATCHED, alerts=(alert("m"),), decision=decision), settings)
    assert found.word is Word.ALERT
    assert "driftloop waits: the measured error rose by 0.030, but only 900" in found.then


def test_a_wait_for_the_cooldown_says_when_it_ends(settings: Settings) -> None:
    decision = {
        **waited("m").to_dict(),
        "reason": "the measured error rose by 0.030, but the last retrain ended less than 3600 s "
        "ago",
        "evidence": {"last_retrain_at": NOW.isoformat()},
    }
    found = condition(replace(WATCHED, alerts=(alert("m"),), decision=decision), settings)
    assert "It may retrain from 2026-11-29 13:00:00 UTC on." in found.then


def test_broken_data_are_an_alert_although_a_retrain_runs(settings: Settings) -> None:
    broken = replace(WATCHED, alerts=(alert("m", CheckKind.QUALITY),), retrain=RUNNING)
    found = condition(broken, settings)
    assert (found.word, "Fix the upstream data" in found.then) == (Word.ALERT, True)


def test_an_alert_that_a_retrain_answers_is_retraining(settings: Settings) -> None:
    found = condition(replace(WATCHED, alerts=(alert("m"),), retrain=RUNNING), settings)
    assert found.word is Word.RETRAINING
    assert "trial 2 of 5, 40 %" in found.why
    assert "a canary starts" in found.then
    assert "by 2026-11-29 13:00:00 UTC" in found.then


def test_a_canary_says_its_share_its_step_and_its_end(settings: Settings) -> None:
    found = condition(replace(WATCHED, alerts=(alert("m"),), rollout=ROLLOUT), settings)
    assert found.word is Word.CANARY
    assert "Version 2 gets 25 % of the traffic, step 2 of 3" in found.why
    assert "about 2 h more. Without a verdict by 2026-12-06" in found.then
    paused = condition(replace(WATCHED, rollout={**ROLLOUT, "state": "paused"}), settings)
    assert "until it is resumed" in paused.then


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"state": "shadow"}, "Version 2 answers in the shadow: nobody gets its answers"),
        ({"state": "watched", "watch": {}}, "the former champion keeps a part of the traffic"),
        ({"state": "watched", "watch": {"began": ""}}, "the former champion answers in the shadow"),
        ({"state": "promoting"}, "Version 2 is being promoted"),
        ({"state": "rolling_back"}, "Version 2 is being taken back"),
    ],
)
def test_each_state_of_a_rollout_is_said(
    settings: Settings, record: dict[str, Any], words: str
) -> None:
    found = condition(replace(WATCHED, rollout={**ROLLOUT, **record}), settings)
    assert found.word is Word.CANARY
    assert words in found.why


def test_a_rollout_that_is_over_is_no_canary(settings: Settings) -> None:
    over = {**ROLLOUT, "state": "promoted"}
    assert condition(replace(WATCHED, rollout=over), settings).word is Word.HEALTHY


def test_the_fleet_begins_with_what_needs_attention() -> None:
    def named(name: str, records: ModelRecords = WATCHED) -> ModelRecords:
        return replace(records, deployment=replace(DEPLOYED, model=ModelSpec(name)))

    gap = ({"served": 9, "acked": 8, "spooled": 0, "dropped": {"quota": 1}},)
    models = [
        (named("a"), Condition(Word.HEALTHY, "", "")),
        (named("b", replace(WATCHED, ledger=gap)), Condition(Word.HEALTHY, "", "")),
        (named("c"), Condition(Word.ALERT, "", "")),
        (named("d"), Condition(Word.CANARY, "", "")),
    ]
    table = fleet_table(models)
    assert [row["model"] for row in table.rows] == ["c", "d", "b", "a"]
    row = table.rows[2]
    assert (row["gaps"], row["label_lag_s"], row["error"]) == (1, 2_400.0, 0.08)
    assert row["rows_per_s"] == pytest.approx(2_000 / 3_000)
