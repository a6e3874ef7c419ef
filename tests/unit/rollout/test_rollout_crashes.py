"""If the controller is killed before or after any write and restarted, the rollout ends in the same
way."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_world import MODEL, Behaviour, World

from driftloop_contracts.errors import Conflict
from driftloop_contracts.model import Deployment, TrafficSplit
from driftloop_rollout.commands import command
from driftloop_rollout.controller import Controller
from driftloop_rollout.machine import FINISHED, TRANSITIONS, Event, State
from driftloop_store.store import Record, Store

MakeWorld = Callable[..., World]


class Killed(BaseException):
    """Has the effect of kill -9 on a process."""


class DeadlyStore(Store):
    """A store with which the process is killed `before` or after its nth write."""

    def __init__(self, store: Store, at: int, before: bool) -> None:
        super().__init__(store._engine)
        self.left, self.before = at, before

    def _deadly(self, write: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left == 0 and self.before:
            raise Killed
        result = write()
        if self.left == 0:
            raise Killed
        return result

    def put_deployment(self, deployment: Deployment) -> Deployment:
        found: Deployment = self._deadly(lambda: Store.put_deployment(self, deployment))
        return found

    def save_rollout(self, *args: Any, **kwargs: Any) -> Record:
        found: Record = self._deadly(lambda: Store.save_rollout(self, *args, **kwargs))
        return found


def run_with_deaths(world: World, deaths: list[tuple[int, bool]], seconds: int) -> None:
    """Run to the end; the controller dies `deaths` times and is replaced."""
    waiting = list(deaths)

    def born() -> Controller:
        store = DeadlyStore(world.store, *waiting.pop(0)) if waiting else world.store
        return Controller(world.settings, store, lambda: world.lake)

    controller = born()
    for _ in range(seconds):
        try:
            controller.tick(world.now)
        except Killed:
            controller = born()
        check(world)
        world.live(1)
        if not world.store.active_rollouts():
            return


def check(world: World) -> None:
    """Check the invariants that hold at every moment."""
    rollout, deployment = world.rollout(), world.deployment
    split = deployment.split
    for version in (split.stable, split.canary):
        assert version is None or deployment.version(version) is not None
    # Saved before executed: traffic is never ahead of what the rollout says, for good reasons.
    granted = max((entry.weight for entry in rollout.history), default=0.0)
    assert (1.0 - split.weight if split.stable == 2 else split.weight) <= granted
    states = [State.PENDING, *(entry.state for entry in rollout.history)]
    for before, entry in zip(states, rollout.history, strict=False):
        assert TRANSITIONS[before, entry.event] is entry.state
    stored = [event["event"] for event in world.store.rollout_events("r1")]
    assert stored == [str(entry.event) for entry in rollout.history]
    if any(entry.event is Event.PROVE for entry in rollout.history):
        assert rollout.evidence is not None
        assert all(metric.proven for metric in rollout.evidence.trial.metrics)
    elif split.stable == 2:
        by = (Event.PROMOTE, Event.WATCH)
        assert any(entry.event in by for entry in rollout.history)


deaths = st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=6)
slow = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(deaths, st.integers(0, 50))
@slow
def test_a_good_candidate_is_promoted_whenever_the_controller_dies(
    make_world: MakeWorld, deaths: list[tuple[int, bool]], seed: int
) -> None:
    world = make_world(seed)
    world.behaviour[2] = Behaviour(wrong=0.03)
    world.request()
    run_with_deaths(world, deaths, 200)
    assert world.rollout().state is State.PROMOTED
    assert world.deployment.split == TrafficSplit(2)


@given(deaths, st.integers(0, 50))
@slow
def test_a_harmful_candidate_is_rolled_back_whenever_the_controller_dies(
    make_world: MakeWorld, deaths: list[tuple[int, bool]], seed: int
) -> None:
    world = make_world(seed)
    world.behaviour[2] = Behaviour(wrong=0.4)
    world.request()
    run_with_deaths(world, deaths, 200)
    assert world.rollout().state is State.ROLLED_BACK
    assert world.deployment.split == TrafficSplit(1)


@given(deaths, st.integers(0, 50))
@settings(parent=slow, max_examples=5)
def test_a_watched_promotion_ends_whenever_the_controller_dies(
    make_world: MakeWorld, deaths: list[tuple[int, bool]], seed: int
) -> None:
    world = make_world(seed, holdback=0.05, label_age_s=10.0)
    world.behaviour[2] = Behaviour(wrong=0.03)
    world.request()
    run_with_deaths(world, deaths, 200)
    assert world.rollout().state is State.PROMOTED
    assert Event.WATCH in {entry.event for entry in world.rollout().history}
    assert world.deployment.split == TrafficSplit(2)


@given(
    deaths,
    st.lists(
        st.tuples(st.integers(0, 10), st.sampled_from(["pause", "resume", "promote", "abort"])),
        max_size=5,
    ),
    st.integers(0, 50),
)
@slow
def test_operators_and_deaths_in_any_order_leave_a_consistent_end(
    make_world: MakeWorld, deaths: list[tuple[int, bool]], orders: list[tuple[int, str]], seed: int
) -> None:
    world = make_world(seed, deadline_s=120.0)
    world.request()
    for seconds, order in orders:
        run_with_deaths(world, deaths, seconds)
        try:
            command(world.store, "r1", order, "ann", "", world.now)
        except Conflict:
            continue
    run_with_deaths(world, deaths, 200)
    state = world.rollout().state
    assert state in FINISHED
    assert world.deployment.split == TrafficSplit(2 if state is State.PROMOTED else 1)
    loaded = world.store.loaded_versions(MODEL)
    assert loaded.revision == world.deployment.revision


def test_evidence_is_used_once_though_the_controller_dies_at_every_save(
    make_world: MakeWorld,
) -> None:
    def seen(deaths: list[tuple[int, bool]]) -> list[tuple[int, int]]:
        world = make_world(3)
        world.with_rules(steps=(0.5, 1.0), quality_margin=0.001)
        world.request()
        run_with_deaths(world, deaths, 30)
        evidence = world.rollout().evidence
        assert evidence is not None
        return [(m.canary_count, m.stable_count) for m in evidence.trial.metrics]

    # The last look may be lost with the process, and is then made by the next one.
    assert seen([(8, False), (1, False), (1, False), (4, False)]) == seen([])
