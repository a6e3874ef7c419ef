"""The watch after a promotion by pairs: the former champion answers the new one's rows unseen."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from rollout_world import START, Behaviour, World
from test_shadow import Graphs

from driftloop_contracts.model import TrafficSplit
from driftloop_rollout.machine import State
from driftloop_rollout.pairs import PairMetric, PairTrial
from driftloop_rollout.shadow_stage import ShadowStage
from driftloop_rollout.shadow_watch import watch_judged
from driftloop_rollout.verdict import Rule

MakeWorld = Callable[..., World]


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


@pytest.fixture
def watched(make_world: MakeWorld, graphs: Graphs, tmp_path: Path) -> World:
    """A promoted candidate, of which the labels of half a minute are still to come."""
    world = make_world(shadow_share=1.0, holdback=0.05, label_age_s=30.0, steps=(0.5,))
    world.open_graph = graphs
    world.requests_per_s = 40
    world.request(path=str(tmp_path))
    controller = world.controller()
    for _ in range(240):
        if world.rollout().state is State.WATCHED:
            break
        world.run(1, controller=controller)
    assert world.rollout().state is State.WATCHED, world.rollout().reason
    return world


def test_the_former_champion_answers_unseen_until_the_labels_have_come(
    watched: World, graphs: Graphs
) -> None:
    assert watched.rollout().weight == 1.0
    controller = watched.controller()
    watched.run(10, controller=controller)
    assert watched.deployment.split == TrafficSplit(2)
    assert "answers in the shadow until the labels" in watched.rollout().reason
    began = watched.rollout().stepped_at
    assert began is not None
    watched.run(150, controller=controller)
    rollout = watched.rollout()
    assert rollout.state is State.PROMOTED
    assert (rollout.finished_at or began) - began >= timedelta(seconds=30)
    assert rollout.watch is not None
    quality = rollout.watch.trial.metric("quality")
    assert quality is not None
    assert quality.rows > 500
    controller.tick(watched.now)
    assert graphs.opened[-1].closed


def test_harm_that_begins_after_the_promotion_rolls_back(watched: World, graphs: Graphs) -> None:
    watched.behaviour[2] = Behaviour(wrong=0.2)
    watched.run(150)
    rollout = watched.rollout()
    assert (rollout.state, rollout.verdict) == (State.ROLLED_BACK, "worse")
    assert rollout.reason.startswith("after the promotion, quality: new 0.")
    assert watched.deployment.split == TrafficSplit(1)


def test_a_former_champion_that_dies_in_the_shadow_keeps_a_part_of_the_traffic(
    watched: World, graphs: Graphs
) -> None:
    graphs.how = {"dies": True}
    controller, told = watched.controller(), set()
    for _ in range(30):
        watched.run(1, controller=controller)
        told.add(watched.rollout().reason)
    assert any("3 times the former champion did not survive the shadow" in why for why in told)
    rollout = watched.rollout()
    assert rollout.state is State.WATCHED
    assert (rollout.watch, rollout.holdback) == (None, 0.05)
    split = watched.deployment.split
    assert (split.stable, split.canary, split.weight) == (2, 1, 0.05)
    watched.run(200)
    assert watched.rollout().state is State.PROMOTED


@pytest.mark.parametrize(("former", "harm"), [(0.02, True), (0.1, False), (0.2, False)])
def test_it_is_harm_only_if_the_former_champion_is_the_better_one(
    former: float, harm: bool
) -> None:
    trial = PairTrial((PairMetric.start(Rule("quality", 0.02, True, share=0.5)),))
    stage = ShadowStage(START, START, START, START, trial)
    assert watch_judged(stage).outcome == "hold"
    rng = np.random.default_rng(0)
    theirs, mine = ((rng.random(4_000) < rate).astype(np.float64) for rate in (former, 0.1))
    stage = ShadowStage(START, START, START, START, trial.update({"quality": (theirs, mine)}))
    assert (watch_judged(stage).outcome == "harm") is harm
