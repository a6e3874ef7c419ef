from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rollout_world import served

from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit
from driftloop_rollout.machine import Rollout, State, Transition
from driftloop_rollout.traffic import desired, superseded, trimmed

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BOTH = Deployment(ModelSpec("m"), (served(1), served(2)), TrafficSplit(1), 5)


def rollout(state: State, step: int = 0) -> Rollout:
    steps = (0.05, 0.25, 1.0)
    return Rollout("r1", "m", state, 1, NOW, served(2), "asked", steps, step, champion=served(1))


def began(state: State) -> Rollout:
    """Return a rollout whose promotion has begun."""
    entry = Transition(NOW, "prove", State.PROMOTING, 1.0, "proof", "controller")  # type: ignore[arg-type]
    return replace(rollout(state), history=(entry,))


@pytest.mark.parametrize("state", State)
def test_asking_again_changes_nothing(state: State) -> None:
    once = desired(rollout(state), BOTH)
    assert desired(rollout(state), once) == once


def test_a_loading_candidate_is_held_but_gets_no_traffic() -> None:
    alone = replace(BOTH, versions=(served(1),))
    assert desired(rollout(State.LOADING), alone) == BOTH


def test_a_running_one_gets_its_steps_weight_under_one_salt() -> None:
    for step, weight in ((0, 0.05), (1, 0.25)):
        for state in (State.RUNNING, State.PAUSED):
            split = desired(rollout(state, step), BOTH).split
            assert split == TrafficSplit(1, 2, weight, "r1")


def test_rolled_back_traffic_is_on_the_champion_and_the_candidate_is_dropped() -> None:
    running = replace(BOTH, split=TrafficSplit(1, 2, 0.25, "r1"))
    after = desired(rollout(State.ROLLING_BACK), running)
    assert (after.split, after.versions) == (TrafficSplit(1), (served(1),))


def test_a_promotion_that_had_begun_is_taken_back_even_if_the_champion_was_unloaded() -> None:
    promoted = Deployment(ModelSpec("m"), (served(2),), TrafficSplit(2), 7)
    after = desired(began(State.ROLLING_BACK), promoted)
    assert (after.split, after.versions) == (TrafficSplit(1), (served(1),))


def test_what_somebody_else_made_stable_is_left_alone() -> None:
    theirs = replace(BOTH, split=TrafficSplit(2))
    assert superseded(rollout(State.RUNNING), theirs)
    assert desired(rollout(State.ABORTING), theirs) == theirs
    other = Deployment(ModelSpec("m"), (served(2), served(3)), TrafficSplit(3), 7)
    assert superseded(rollout(State.PROMOTING), other)
    assert desired(rollout(State.ABORTING), other).split == TrafficSplit(3)


def test_its_own_promotion_supersedes_nobody() -> None:
    promoted = replace(BOTH, split=TrafficSplit(2))
    assert not superseded(rollout(State.PROMOTING), promoted)
    assert superseded(rollout(State.RUNNING), promoted)


def test_former_champions_stay_warm_as_the_settings_say() -> None:
    versions = tuple(served(v) for v in (1, 5, 6, 2))
    deployment = Deployment(ModelSpec("m"), versions, TrafficSplit(2))
    kept = [
        {v.version for v in trimmed(rollout(State.PROMOTING), deployment, keep).versions}
        for keep in (0, 1, 2)
    ]
    assert kept == [{2}, {1, 2}, {1, 2, 6}]


def test_a_promoted_version_brings_its_spec_and_the_champions_comes_back_with_it() -> None:
    theirs = ModelSpec("m", options={"onnx": {"max_batch": 8}}, policy={"retrain": {"max_rows": 9}})
    policy = {"monitoring": {"min_rows": 50}}
    first = replace(served(1), spec=ModelSpec("m"))
    asked = replace(
        rollout(State.PROMOTING), candidate=replace(served(2), spec=theirs), champion=first
    )
    before = replace(BOTH, model=ModelSpec("m", policy=policy))
    promoted = desired(asked, before)
    assert promoted.model == replace(theirs, policy=policy)
    back = desired(
        replace(asked, state=State.ROLLING_BACK, history=began(State.PROMOTING).history), promoted
    )
    assert back.model == before.model


def test_a_version_of_a_retrain_leaves_the_spec() -> None:
    before = replace(BOTH, model=ModelSpec("m", options={"onnx": {"max_batch": 8}}))
    assert desired(rollout(State.PROMOTING), before).model == before.model
