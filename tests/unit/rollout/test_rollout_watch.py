"""After a promotion the former champion keeps a share until the labels of the promotion came."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from rollout_world import Behaviour, World

from driftloop_contracts.model import TrafficSplit
from driftloop_rollout.commands import command
from driftloop_rollout.machine import State

MakeWorld = Callable[..., World]


@pytest.fixture
def watched(make_world: MakeWorld) -> World:
    """A better candidate that was promoted while the labels of 40 s are still to come."""
    world = make_world(holdback=0.05, label_age_s=40.0)
    world.behaviour[2] = Behaviour(wrong=0.02)
    world.request()
    until(world, State.WATCHED)
    return world


def until(world: World, state: State, seconds: int = 300) -> None:
    for _ in range(seconds):
        if world.rollout().state is state:
            return
        world.run(1)
    raise AssertionError(f"not {state}, but {world.rollout().state}: {world.rollout().reason}")


def test_the_former_champion_keeps_its_holdback_until_the_labels_have_come(
    watched: World,
) -> None:
    watched.run(5)
    split = watched.deployment.split
    assert (split.stable, split.canary, split.weight) == (2, 1, 0.05)
    assert "keeps 5% until the labels" in watched.rollout().reason
    began = watched.rollout().stepped_at
    assert began is not None
    watched.run(150)
    rollout = watched.rollout()
    assert rollout.state is State.PROMOTED
    assert [str(entry.event) for entry in rollout.history[-3:]] == ["watch", "prove", "settle"]
    assert rollout.history[-2].at - began >= timedelta(seconds=80)
    assert watched.deployment.split == TrafficSplit(2)
    assert {v.version for v in watched.deployment.versions} == {1, 2}


def test_harm_that_the_late_labels_show_rolls_back_by_itself(watched: World) -> None:
    """It began with the promotion: no label had shown it before."""
    watched.behaviour[2] = Behaviour(wrong=0.6)
    until(watched, State.ROLLED_BACK)
    assert watched.rollout().verdict == "worse"
    assert watched.rollout().reason.startswith("after the promotion")
    assert watched.deployment.split == TrafficSplit(1)


def test_an_operator_ends_the_watch_by_promoting_or_takes_it_back(watched: World) -> None:
    command(watched.store, "r1", "promote", "ann", "", watched.now)
    until(watched, State.PROMOTED, 5)
    assert watched.deployment.split == TrafficSplit(2)


def test_an_abort_of_a_watched_promotion_serves_the_former_champion(watched: World) -> None:
    command(watched.store, "r1", "abort", "ann", "", watched.now)
    until(watched, State.ABORTED, 5)
    assert watched.deployment.split == TrafficSplit(1)


def test_labels_that_stop_do_not_keep_the_holdback_forever(watched: World) -> None:
    watched.labelled = 0.0
    until(watched, State.PROMOTED)


def test_a_model_without_labels_is_promoted_at_once(make_world: MakeWorld) -> None:
    world = make_world(task=None, holdback=0.05, steps=(0.5, 1.0))
    world.request()
    world.run(400)
    assert world.rollout().state is State.PROMOTED
    assert State.WATCHED not in {entry.state for entry in world.rollout().history}
