"""Two machines run the role on one store: one acts."""

from datetime import UTC, datetime, timedelta

from driftloop_store import Store
from driftloop_store.standby import LASTS, Lease

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def test_one_machine_acts_and_the_other_takes_over(store: Store) -> None:
    first, second = Lease(store, "alerts", "first"), Lease(store, "alerts", "second")
    for second_s in range(0, 300, 2):
        now = NOW + timedelta(seconds=second_s)
        assert first.held(now)
        assert not second.held(now)
    dead_since = NOW + timedelta(seconds=298)
    assert not second.held(dead_since + LASTS / 3)
    assert second.held(dead_since + LASTS + timedelta(seconds=1))
    assert not first.held(dead_since + LASTS + timedelta(seconds=2))  # it only hung


def test_a_role_that_is_killed_and_started_again_acts_at_once(store: Store) -> None:
    assert Lease(store, "alerts", "machine").held(NOW)
    assert Lease(store, "alerts", "machine").held(NOW + timedelta(seconds=1))


def test_a_role_that_stops_lets_another_act_at_once(store: Store) -> None:
    first, second = Lease(store, "alerts", "first"), Lease(store, "alerts", "second")
    assert first.held(NOW)
    first.give_back()
    assert second.held(NOW + timedelta(seconds=1))


def test_a_clock_that_is_set_back_keeps_the_lease_short(store: Store) -> None:
    first, second = Lease(store, "alerts", "first"), Lease(store, "alerts", "second")
    assert first.held(NOW)
    back = NOW - timedelta(hours=1)
    assert first.held(back)
    assert second.held(back + LASTS + timedelta(seconds=1))


def test_roles_do_not_stand_by_for_each_other(store: Store) -> None:
    assert Lease(store, "alerts", "first").held(NOW)
    assert Lease(store, "serving", "second").held(NOW)
