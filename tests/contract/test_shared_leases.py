"""Several processes of a role share its models out, on every database that the store runs on."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from driftloop_store import Store, open_store
from driftloop_store.database_lock import database_lock
from driftloop_store.readers import LeaseLost
from driftloop_store.shares import Shares

MODELS = [f"model_{number}" for number in range(8)]  # `_` is a wildcard in SQL
LONG_S, GONE_S = 60.0, -1.0
"""Leases that last through the test, and some that have ended when they are given."""


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=[pytest.mark.integration, pytest.mark.cluster]),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    sqlite = f"sqlite:///{tmp_path / 'store.db'}"
    url = sqlite if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    with closing(open_store(url)) as opened:
        yield opened


def shares(store: Store, holder: str, *, now: list[float], lasts_s: float = LONG_S) -> Shares:
    return Shares(
        store, "monitor", holder, patience_s=30.0, lasts_s=lasts_s, monotonic=lambda: now[0]
    )


def test_two_share_what_one_had(store: Store) -> None:
    assert store.share("monitor", "a", MODELS, LONG_S, None) == set(MODELS)
    assert store.share("monitor", "b", MODELS, LONG_S, None) == set()
    a = store.share("monitor", "a", MODELS, LONG_S, None)
    b = store.share("monitor", "b", MODELS, LONG_S, None)
    assert (len(a), len(b)) == (4, 4)
    assert a | b == set(MODELS)


def test_roles_do_not_share_with_each_other(store: Store) -> None:
    for role in ("monitor", "monitorx", "rollout"):
        assert store.share(role, "a", MODELS, LONG_S, None) == set(MODELS)
    store.give_back_shares("monitor", "a")
    assert store.share("monitor", "b", MODELS, LONG_S, None) == set(MODELS)
    assert store.share("monitorx", "b", MODELS, LONG_S, None) == set()


def test_one_that_died_loses_its_part_when_its_time_has_passed(store: Store) -> None:
    store.share("monitor", "dead", MODELS, GONE_S, None)
    assert store.share("monitor", "b", MODELS, LONG_S, None) == set(MODELS)
    assert store.renew_shares("monitor", "dead", LONG_S) == set()


def test_one_that_was_late_keeps_what_nobody_took(store: Store) -> None:
    store.share("monitor", "a", MODELS, GONE_S, None)
    assert store.renew_shares("monitor", "a", LONG_S) == set(MODELS)
    assert store.share("monitor", "b", MODELS, LONG_S, None) == set()


def test_one_that_goes_leaves_its_part_at_once(store: Store) -> None:
    store.share("monitor", "a", MODELS, LONG_S, None)
    store.give_back_shares("monitor", "a")
    assert store.share("monitor", "b", MODELS, LONG_S, None) == set(MODELS)


def test_of_many_who_start_at_once_each_model_is_ones(store: Store) -> None:
    def part(number: int) -> frozenset[str]:
        return store.share("monitor", f"m{number}", MODELS, LONG_S, None)

    with ThreadPoolExecutor(8) as machines:
        for _ in range(3):
            parts = list(machines.map(part, range(8)))
            shared_out = [model for mine in parts for model in mine]
            assert len(shared_out) == len(set(shared_out))
    # What some gave back while others looked is taken in the next round.
    assert sorted(model for mine in map(part, range(8)) for model in mine) == MODELS


def test_what_a_former_holder_writes_is_refused(store: Store) -> None:
    now = [0.0]
    old, new = shares(store, "old", now=now, lasts_s=GONE_S), shares(store, "new", now=now)
    assert old.of(["m"]) == {"m"}
    store.put_fenced_cursor("monitor/m", {"rows": 1}, old.fence("m"), "m")
    assert store.revisions() == {"m": 1}  # pages show what it holds
    assert new.of(["m"]) == {"m"}
    with pytest.raises(LeaseLost):
        store.put_fenced_cursor("monitor/m", {"rows": 0}, old.fence("m"))
    store.put_fenced_cursor("monitor/m", {"rows": 2}, new.fence("m"))
    assert store.cursor("monitor/m") == {"rows": 2}
    new.give_back()
    with pytest.raises(LeaseLost):
        store.put_fenced_cursor("monitor/m", {"rows": 3}, new.fence("m"))


def test_one_that_hangs_does_not_keep_its_part(store: Store) -> None:
    now = [0.0]
    hangs, other = shares(store, "hangs", now=now, lasts_s=GONE_S), shares(store, "b", now=now)
    assert hangs.of(["m"]) == {"m"}
    now[0] = 31.0
    hangs.renew()
    assert other.of(["m"]) == {"m"}
    hangs.alive()
    hangs.renew()
    assert not hangs.holds("m")
    assert hangs.of(["m"]) == set()


def test_a_new_model_is_somebodys_at_the_next_cycle(store: Store) -> None:
    alone = shares(store, "a", now=[0.0])
    assert alone.of(["m"]) == {"m"}
    assert alone.of(["m", "new"]) == {"m", "new"}


def test_the_databases_time_is_a_time_of_now(store: Store) -> None:
    before, after = store.now(), store.now()
    assert before <= after
    assert before.tzinfo is not None


@pytest.mark.integration
@pytest.mark.cluster
def test_two_machines_take_turns_at_a_database(postgres_url: str) -> None:
    """As when both make MLflow's tables."""
    inside, most = [0], [0]

    def work(_: int) -> None:
        with database_lock(postgres_url, 7):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            os.sched_yield()  # the others may run
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(32)))
    assert most == [1]
