import threading

import pytest
from rollout_world import Behaviour, World

from driftloop_rollout.aliases import run_aliases, settle_aliases
from driftloop_rollout.machine import State


def test_a_promotion_names_the_champion(world: World) -> None:
    world.request()
    world.run(120)
    assert world.rollout().registry_due
    assert settle_aliases(world.store, lambda: world.registry) == 1  # type: ignore[arg-type, return-value]
    assert world.registry.named == {"champion": 2}
    assert not world.rollout().registry_due
    assert settle_aliases(world.store, lambda: world.registry) == 0  # type: ignore[arg-type, return-value]


def test_a_rollback_leaves_the_champion_and_takes_the_challenger_away(world: World) -> None:
    world.behaviour[2] = Behaviour(wrong=0.4)
    world.request()
    world.run(120)
    settle_aliases(world.store, lambda: world.registry)  # type: ignore[arg-type, return-value]
    assert world.registry.named == {"champion": 1}


def test_a_newer_challenger_is_left_alone(world: World) -> None:
    world.registry.named["challenger"] = 3
    world.request()
    world.run(120)
    settle_aliases(world.store, lambda: world.registry)  # type: ignore[arg-type, return-value]
    assert world.registry.named == {"champion": 2, "challenger": 3}


def test_a_registry_that_is_away_delays_no_traffic(world: World) -> None:
    world.registry.away = True
    world.request()
    world.run(120)
    assert world.rollout().state is State.PROMOTED
    with pytest.raises(OSError, match="away"):
        settle_aliases(world.store, lambda: world.registry)  # type: ignore[arg-type, return-value]
    assert world.rollout().registry_due
    world.registry.away = False
    settle_aliases(world.store, lambda: world.registry)  # type: ignore[arg-type, return-value]
    assert world.registry.named["champion"] == 2


def test_the_thread_ends_when_it_is_told_to(world: World) -> None:
    stop = threading.Event()
    stop.set()
    run_aliases(world.store, lambda: world.registry, stop)  # type: ignore[arg-type, return-value]
