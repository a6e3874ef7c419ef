"""The controller with a real store, an in-memory lake and simulated replicas; minutes pass at
once."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from rollout_world import MODEL, Behaviour, World, served

from driftloop_console.views.rollout_page import metrics_table
from driftloop_contracts.errors import Conflict, NotFound, Rejected
from driftloop_contracts.model import TrafficSplit
from driftloop_rollout.commands import command
from driftloop_rollout.machine import Event, State
from driftloop_rollout.traffic import planned_steps

MakeWorld = Callable[..., World]


def events(world: World) -> list[str]:
    return [str(entry.event) for entry in world.rollout().history]


def test_a_better_candidate_walks_the_ladder_and_becomes_champion(world: World) -> None:
    world.request()
    world.run(120)
    rollout = world.rollout()
    assert rollout.state is State.PROMOTED
    assert events(world) == ["adopt", "skip", "loaded", "advance", "advance", "prove", "settle"]
    assert "rollout.shadow_share is 0" in rollout.history[1].reason
    assert [entry.weight for entry in rollout.history] == [0.0, 0.0, 0.05, 0.25, 0.5, 1.0, 1.0]
    assert rollout.verdict in ("better", "not worse", "equivalent")
    assert world.deployment.split == TrafficSplit(2)
    assert {v.version for v in world.deployment.versions} == {1, 2}  # the former one stays warm
    stored = [event["event"] for event in world.store.rollout_events("r1")]
    assert stored == events(world)


def test_metrics_of_both_arms_are_shown_beside_what_decides_with_intervals(world: World) -> None:
    world.behaviour[2] = Behaviour(wrong=0.02)
    world.request()
    world.run(90)
    evidence = world.rollout().evidence
    assert evidence is not None
    low = {}
    for side, error in (("candidate", 0.02), ("champion", 0.085)):
        (output,) = evidence.metrics[side]["outputs"]
        _, low[side], high = output["metrics"]["accuracy"]
        assert low[side] <= 1 - error <= high
        assert np.sum(output["confusion"]) == output["rows"] > 100
    table = metrics_table(world.rollout())
    (shown,) = (row for row in table.rows if row["metric"] == "accuracy")
    assert shown["candidate"] > shown["champion"]
    assert str(shown["candidate_range"]).startswith(f"{low['candidate']:.4g} – ")
    assert {"recall", "f1"} <= {row["metric"] for row in table.rows}


def test_a_harmful_candidate_is_rolled_back_before_it_gets_much_traffic(world: World) -> None:
    world.behaviour[2] = Behaviour(wrong=0.25)
    world.request()
    world.run(120)
    rollout = world.rollout()
    assert (rollout.state, rollout.verdict) == (State.ROLLED_BACK, "worse")
    assert "quality" in rollout.reason
    assert world.most_traffic[2] == 0.05
    assert world.deployment.split == TrafficSplit(1)
    assert [v.version for v in world.deployment.versions] == [1]


def test_a_candidate_that_fails_is_rolled_back_though_no_label_ever_comes(world: World) -> None:
    world.behaviour[2] = Behaviour(failing=0.5)
    world.lake.label_delay = timedelta(days=1)
    world.request()
    world.run(60)
    assert world.rollout().state is State.ROLLED_BACK
    assert world.rollout().reason.startswith("errors")


def test_a_canary_is_held_while_labels_are_late(world: World) -> None:
    world.lake.label_delay = timedelta(days=1)
    world.request()
    world.run(60)
    rollout = world.rollout()
    assert (rollout.state, rollout.weight) == (State.RUNNING, 0.05)
    assert "labels are late" in rollout.reason


def test_a_held_canary_goes_on_when_its_labels_come(world: World) -> None:
    world.lake.label_delay = timedelta(days=1)
    world.request()
    world.run(40)
    world.lake.label_delay = timedelta(seconds=2)
    world.run(120)
    assert world.rollout().state is State.PROMOTED


def test_labels_that_stay_partial_hold_nothing_up(world: World) -> None:
    world.labelled = 0.6
    world.lake.tables.clear()
    world.live(20)
    world.request()
    world.run(200)
    rollout = world.rollout()
    assert rollout.state is State.PROMOTED
    assert rollout.evidence is not None
    assert rollout.evidence.labels is not None
    assert rollout.evidence.labels.share == pytest.approx(0.6, abs=0.1)


def test_the_time_to_a_verdict_is_told_when_the_canary_begins(world: World) -> None:
    world.request()
    world.run(3)
    loaded = next(e for e in world.rollout().history if e.event is Event.LOADED)
    assert "to a verdict" in loaded.reason


def test_a_verdict_that_comes_after_the_deadline_is_told_within_the_first_minute(
    make_world: MakeWorld,
) -> None:
    world = make_world(deadline_s=3600.0)
    world.requests_per_s, world.rows = 1, 1
    world.lake.tables.clear()
    world.live(200)
    world.request()
    world.run(30)
    assert "no verdict before the deadline" in world.rollout().reason


def test_no_traffic_promotes_nothing_and_the_deadline_ends_it(make_world: MakeWorld) -> None:
    world = make_world(deadline_s=3600.0)
    world.request()
    world.run(5)
    world.requests_per_s = 0
    world.run(3700, tick_s=60)
    rollout = world.rollout()
    assert rollout.state is State.ROLLED_BACK
    assert "deadline" in rollout.history[-1].reason
    assert world.deployment.split == TrafficSplit(1)


def test_unaccounted_loss_is_inconclusive(world: World) -> None:
    world.request()
    world.run(5)
    world.store.put_ledger("a", MODEL, 2, served=100, acked=90, spooled=5, dropped={})
    world.run(60)
    assert world.rollout().weight == 0.05
    assert "5 served rows are not accounted for" in world.rollout().reason
    world.store.put_ledger("a", MODEL, 2, served=100, acked=90, spooled=5, dropped={"quota": 5})
    world.run(120)
    assert world.rollout().state is State.PROMOTED


def test_an_old_loss_of_the_champion_holds_nothing_up(world: World) -> None:
    world.store.put_ledger("a", MODEL, 1, served=100, acked=90, spooled=5, dropped={})
    world.request()
    world.run(120)
    assert world.rollout().state is State.PROMOTED


def test_a_lake_that_is_away_is_waited_for(world: World) -> None:
    world.request()
    world.run(5)
    world.lake.away = True
    world.run(20)
    assert world.rollout().state is State.RUNNING
    world.lake.away = False
    world.run(120)
    assert world.rollout().state is State.PROMOTED


def test_the_first_step_waits_until_replicas_hold_the_candidate(make_world: MakeWorld) -> None:
    world = make_world(load_timeout_s=60.0)
    world.serving_away = True
    world.request()
    world.run(30)
    assert (world.rollout().state, world.rollout().weight) == (State.LOADING, 0.0)
    world.run(120)
    world.serving_away = False
    world.run(5)
    assert world.rollout().state is State.ROLLED_BACK
    assert "could not load" in world.rollout().reason


def test_a_rollout_follows_its_models_policy(world: World) -> None:
    world.with_policy(steps=[0.4], promote_unlabelled=False, deadline_s=7200.0)
    world.request()
    world.run(5)
    rollout = world.rollout()
    assert (rollout.steps, rollout.weight) == ((0.4, 1.0), 0.4)
    assert rollout.deadline_at is not None
    assert rollout.deadline_at < world.now + timedelta(seconds=7200)


def test_a_rollout_that_has_begun_keeps_its_steps(world: World) -> None:
    world.with_policy(steps=[0.4])
    world.request()
    world.run(5)
    world.with_policy(steps=[0.7])
    world.run(120)
    assert world.most_traffic[2] == 0.4


def test_a_paused_canary_keeps_its_share_and_goes_on_when_resumed(world: World) -> None:
    world.request()
    world.run(5)
    command(world.store, "r1", "pause", "ann", "lunch", world.now)
    world.run(60)
    assert (world.rollout().state, world.rollout().weight) == (State.PAUSED, 0.05)
    command(world.store, "r1", "resume", "ann", "", world.now)
    world.run(120)
    assert world.rollout().state is State.PROMOTED


def test_a_paused_canary_that_does_harm_is_rolled_back(world: World) -> None:
    world.request()
    world.run(5)
    command(world.store, "r1", "pause", "ann", "lunch", world.now)
    world.behaviour[2] = Behaviour(wrong=0.4)
    world.run(60)
    assert world.rollout().state is State.ROLLED_BACK


def test_an_operators_promotion_skips_the_evidence_and_is_recorded(world: World) -> None:
    world.request()
    world.run(3)
    command(world.store, "r1", "promote", "ann", "known to be good", world.now)
    world.run(10)
    rollout = world.rollout()
    assert (rollout.state, rollout.verdict) == (State.PROMOTED, "undecided")
    entry = next(e for e in rollout.history if e.event is Event.PROMOTE)
    assert (entry.actor, entry.reason) == ("ann", "known to be good")


def test_an_abort_brings_all_traffic_back(world: World) -> None:
    world.request()
    world.run(5)
    command(world.store, "r1", "abort", "ann", "", world.now)
    world.run(10)
    assert world.rollout().state is State.ABORTED
    assert world.deployment.split == TrafficSplit(1)


def test_an_abort_during_the_promotion_serves_the_former_champion(world: World) -> None:
    world.request()
    world.run(5)
    command(world.store, "r1", "promote", "ann", "", world.now)
    world.serving_away = True
    world.run(3)
    assert world.deployment.split == TrafficSplit(2)
    command(world.store, "r1", "abort", "ann", "oops", world.now)
    world.serving_away = False
    world.run(10)
    assert world.rollout().state is State.ABORTED
    assert world.deployment.split == TrafficSplit(1)


def test_commands_that_do_not_fit_change_nothing(world: World) -> None:
    world.request()
    with pytest.raises(Conflict, match="is pending: `pause` is not possible"):
        command(world.store, "r1", "pause", "ann", "", world.now)
    with pytest.raises(Rejected, match="unknown command 'settle'"):
        command(world.store, "r1", "settle", "ann", "", world.now)
    with pytest.raises(NotFound):
        command(world.store, "r9", "abort", "ann", "", world.now)
    assert world.rollout().history == ()


def test_a_stable_version_changed_by_somebody_else_ends_the_rollout(world: World) -> None:
    world.request()
    world.run(5)
    theirs = world.deployment.with_version(served(3))
    world.behaviour[3] = Behaviour()
    from dataclasses import replace

    world.store.put_deployment(replace(theirs, split=TrafficSplit(3)))
    world.run(10)
    rollout = world.rollout()
    assert rollout.state is State.ABORTED
    assert "version 3 was made the stable one" in rollout.reason
    assert world.deployment.split == TrafficSplit(3)
    assert {v.version for v in world.deployment.versions} == {1, 3}


def test_a_candidate_that_is_stable_already_is_no_candidate(world: World) -> None:
    world.request(candidate=1)
    world.run(10)
    assert world.rollout().state is State.ABORTED
    assert world.deployment.split == TrafficSplit(1)
    assert [v.version for v in world.deployment.versions] == [1]


def test_a_model_without_a_task_is_promoted_on_errors_and_latency(make_world: MakeWorld) -> None:
    world = make_world(task=None)
    world.requests_per_s, world.rows = 300, 1
    world.request()
    world.run(300, tick_s=5)
    assert world.rollout().state is State.PROMOTED
    assert "quality" not in world.rollout().reason


def test_a_model_without_a_task_may_be_left_to_operators(make_world: MakeWorld) -> None:
    world = make_world(task=None, promote_unlabelled=False)
    world.requests_per_s, world.rows = 300, 1
    world.request()
    world.run(300, tick_s=5)
    assert world.rollout().state is State.RUNNING
    assert "an operator has to promote" in world.rollout().reason


def test_promotions_and_ends_are_planned_from_the_settings() -> None:
    assert planned_steps((0.5, 0.05, 1.0)) == (0.05, 0.5, 1.0)
    assert planned_steps((0.1,)) == (0.1, 1.0)
    assert planned_steps((1.0,)) == (0.5, 1.0)
