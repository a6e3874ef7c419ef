"""Words of a model's policy that keep a good verdict from being acted upon."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rollout_world import MODEL, START, Behaviour, World, served

from driftloop_contracts.errors import Conflict
from driftloop_contracts.model import TrafficSplit
from driftloop_rollout.commands import command, retry
from driftloop_rollout.machine import Rollout, State
from driftloop_rollout.permission import refusal
from driftloop_settings import RolloutSettings
from driftloop_settings.change_windows import change_window, next_open, open_at

MakeWorld = Callable[..., World]
FRIDAY = datetime(2026, 11, 27, 15, 0, tzinfo=UTC)


def rollout() -> Rollout:
    steps = (0.05, 1.0)
    return Rollout("r1", "m", State.RUNNING, 1, FRIDAY, served(2), "asked", steps)


def test_a_promotion_may_need_more_than_not_worse() -> None:
    rules = RolloutSettings(promote="when_better")
    no = refusal(rollout(), rules, "promote", "equivalent", FRIDAY)
    assert no is not None
    assert "when_better" in no.why
    assert refusal(rollout(), rules, "promote", "better", FRIDAY) is None
    assert refusal(rollout(), rules, "advance", "undecided", FRIDAY) is None


def test_what_was_approved_waits_no_longer() -> None:
    rules = RolloutSettings(approve=("promote",))
    no = refusal(rollout(), rules, "promote", "better", FRIDAY)
    assert no is not None
    assert no.awaits == "promote"
    approved = replace(rollout(), approved=("promote",))
    assert refusal(approved, rules, "promote", "better", FRIDAY) is None


def test_a_change_window_has_days_hours_and_a_zone() -> None:
    windows = ("Mon-Fri 09:00-16:30",)
    assert open_at(windows, "UTC", FRIDAY)
    assert not open_at(windows, "Asia/Tokyo", FRIDAY)
    assert not open_at(windows, "UTC", FRIDAY + timedelta(hours=2))
    monday = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
    assert next_open(windows, "UTC", FRIDAY + timedelta(hours=2, seconds=5)) == monday
    assert open_at((), "UTC", FRIDAY)
    assert open_at(("Sat-Mon 00:00-24:00",), "UTC", FRIDAY + timedelta(days=2))
    rules = RolloutSettings(change_windows=windows)
    no = refusal(rollout(), rules, "advance", "undecided", FRIDAY + timedelta(days=1))
    assert no is not None
    assert "2026-11-30 09:00" in no.why


@pytest.mark.parametrize(
    "text", ["", "Mon 9-17", "Mon 17:00-09:00", "Lun 09:00-17:00", "Mon 09:00-24:30"]
)
def test_a_window_that_is_none_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"change window|is not one of|after the beginning"):
        change_window(text)


def test_the_canary_and_the_promotion_wait_for_a_person(make_world: MakeWorld) -> None:
    world = make_world(approve=("canary", "promote"))
    world.request()
    world.run(5)
    assert (world.rollout().state, world.rollout().awaits) == (State.LOADING, "canary")
    assert world.deployment.split.weight == 0.0
    command(world.store, "r1", "approve", "ann", "", world.now)
    world.run(120)
    assert (world.rollout().state, world.rollout().awaits) == (State.RUNNING, "promote")
    assert "a person has to approve the promotion" in world.rollout().reason
    command(world.store, "r1", "approve", "bob", "looks good", world.now)
    world.run(10)
    done = world.rollout()
    assert done.state is State.PROMOTED
    assert [e.actor for e in done.history if e.event == "approve"] == ["ann", "bob"]


def test_a_candidate_waits_for_its_change_window_and_harm_rolls_back_outside_of_one(
    make_world: MakeWorld,
) -> None:
    """The world begins on a Tuesday at midnight."""
    world = make_world(change_windows=("Tue 00:01-00:02", "Wed 00:00-24:00"))
    world.request()
    world.run(3)
    assert (world.rollout().state, world.deployment.split.weight) == (State.LOADING, 0.0)
    assert "change window, which opens at 2026-11-24 00:01" in world.rollout().reason
    world.now = START + timedelta(seconds=60)
    world.run(5)
    assert world.rollout().weight == world.deployment.split.weight == 0.05
    world.now = START + timedelta(seconds=120)
    world.run(45)  # closed again: what it has it keeps, and no more
    assert world.rollout().weight == world.deployment.split.weight == 0.05
    assert "which opens at 2026-11-25 00:00" in world.rollout().reason
    world.behaviour[2] = Behaviour(wrong=0.9)
    world.run(20)
    assert world.rollout().state is State.ROLLED_BACK


def test_nothing_can_be_approved_before_it_waits(world: World) -> None:
    world.request()
    world.run(2)
    with pytest.raises(Conflict, match="does not wait for an approval"):
        command(world.store, "r1", "approve", "ann", "", world.now)


def test_a_candidate_gets_no_more_rows_than_it_may(make_world: MakeWorld) -> None:
    """With labels that are late, nothing else would end its share."""
    world = make_world(max_exposure_rows=200)
    world.lake.label_delay = timedelta(seconds=60)
    world.request()
    world.run(40)
    halted = world.rollout()
    assert (halted.state, halted.weight) == (State.RUNNING, 0.0)
    assert world.deployment.split == TrafficSplit(1)
    assert {v.version for v in world.deployment.versions} == {1, 2}
    world.run(120)
    ended = world.rollout()
    assert ended.state is State.ROLLED_BACK
    assert "its exposure was spent without a verdict" in ended.reason
    assert ended.evidence is not None
    assert 200 <= ended.evidence.answered < 600


def test_rows_that_may_have_cost_too_much_end_the_share(make_world: MakeWorld) -> None:
    world = make_world(max_exposure_loss=3.0)
    world.behaviour[2] = Behaviour(wrong=0.085)
    world.lake.label_delay = timedelta(seconds=60)
    world.request()
    world.run(30)
    assert world.rollout().halted_at is not None


def test_an_aborted_rollout_is_tried_again_when_asked(world: World) -> None:
    world.request()
    world.run(3)
    with pytest.raises(Conflict, match="nothing to try again"):
        retry(world.store, "r1", "ann", "", world.now)
    command(world.store, "r1", "abort", "ann", "", world.now)
    world.run(5)
    again = retry(world.store, "r1", "ann", "the lake was away", world.now)
    world.run(120)
    assert world.rollout(again["id"]).state is State.PROMOTED


def test_of_a_group_one_model_is_rolled_out_at_a_time(make_world: MakeWorld) -> None:
    world = make_world(group="credit")
    d = world.deployment
    world.store.put_deployment(replace(d, model=replace(d.model, name="cards"), revision=0))
    world.request()
    controller = world.controller()
    controller.tick(world.now)
    world.store.request_rollout("r2", served(2), "cards", world.now, "asked")
    controller.tick(world.now)
    waits = Rollout.from_record(world.store.rollout("r2"))
    assert waits.state is State.PENDING
    assert waits.reason == f"waits for the rollout of {MODEL}, of its group"
    command(world.store, "r1", "abort", "ann", "", world.now)
    world.serve()
    for _ in range(3):
        controller.tick(world.now)
        world.serve()
    assert Rollout.from_record(world.store.rollout("r2")).state is State.LOADING
