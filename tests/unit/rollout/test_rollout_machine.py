import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_world import served

from driftloop_contracts.errors import Conflict
from driftloop_contracts.transitions import diagram
from driftloop_rollout.evidence import ChampionBaseline, RolloutEvidence
from driftloop_rollout.machine import (
    FINISHED,
    TRANSITIONS,
    Event,
    Rollout,
    State,
    apply,
)
from driftloop_rollout.verdict import Metric, Rule, Trial
from driftloop_store.store import FINISHED_ROLLOUTS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STEPS = (0.05, 0.25, 0.5, 1.0)


def rollout(state: State = State.PENDING, step: int = 0) -> Rollout:
    return Rollout("r1", "m", state, 1, NOW, served(2), "asked", STEPS, step, champion=served(1))


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_each_pair_is_listed_or_raises_and_leaves_the_rollout_alone(
    state: State, event: Event
) -> None:
    before = rollout(state)
    if (state, event) in TRANSITIONS:
        after = apply(before, event, NOW, "because")
        assert after.state is TRANSITIONS[state, event]
        assert (after.history[-1].event, after.history[-1].reason) == (event, "because")
    else:
        with pytest.raises(Conflict, match=f"is {state}: `{event}` is not possible"):
            apply(before, event, NOW, "because")
    assert before == rollout(state)


def test_finished_rollouts_are_those_of_the_store_and_nothing_leaves_them() -> None:
    assert {str(s) for s in FINISHED} == set(FINISHED_ROLLOUTS)
    assert not [pair for pair in TRANSITIONS if pair[0] in FINISHED]


def test_every_state_can_end_and_only_promoting_ends_promoted() -> None:
    reach = set(FINISHED)
    while more := {a for (a, _), b in TRANSITIONS.items() if b in reach} - reach:
        reach |= more
    assert reach == set(State)
    assert {a for (a, _), b in TRANSITIONS.items() if b is State.PROMOTED} == {State.PROMOTING}
    assert {e for (_, e), b in TRANSITIONS.items() if b is State.PROMOTING} == {
        Event.PROVE,
        Event.PROMOTE,
    }


def test_the_last_rung_is_left_by_promotion_only() -> None:
    at_last = rollout(State.RUNNING, step=2)
    with pytest.raises(Conflict):
        apply(at_last, Event.ADVANCE, NOW, "gate")
    assert apply(at_last, Event.PROVE, NOW, "proof").weight == 1.0


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_whatever_happens_history_and_weight_tell_the_state(events: list[Event]) -> None:
    current = rollout()
    for number, event in enumerate(events):
        try:
            current = apply(current, event, NOW + timedelta(seconds=number), "because")
        except Conflict:
            continue
        assert current.history[-1].state is current.state
        assert current.history[-1].weight == current.weight
        assert 0.0 <= current.weight <= 1.0
        if current.state in (State.LOADING, State.ROLLING_BACK, State.ROLLED_BACK, State.ABORTED):
            assert current.weight == 0.0
    assert (current.finished_at is not None) == current.finished == current.registry_due


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_a_rollout_survives_json_at_any_point(events: list[Event]) -> None:
    trial = Trial((Metric.start(Rule("quality", 0.02, True), STEPS[:-1], 0.08),))
    baseline = ChampionBaseline(0.05, 0.0, 0.01, 0.08, None, 25.0, 500.0)
    current = rollout()
    for event in events:
        try:
            current = apply(current, event, NOW, "because", actor="me", numbers={"n": 1})
        except Conflict:
            continue
    from dataclasses import replace

    current = replace(
        current, evidence=RolloutEvidence(baseline, trial, NOW, NOW, 3, "labels are late")
    )
    columns = {
        "id": current.id,
        "model": current.model,
        "at": NOW.isoformat(),
        "state": str(current.state),
        "revision": current.revision,
    }
    assert Rollout.from_record({**json.loads(json.dumps(current.to_body())), **columns}) == current


def test_the_picture_in_the_docs_is_drawn_from_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "states.md").read_text()
    assert f"```mermaid\n{diagram(State.PENDING, TRANSITIONS)}```" in page, "run `make reference`"
