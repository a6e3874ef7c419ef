from datetime import UTC, datetime, timedelta

from driftloop_evaluation.settling import INSTANT, SETTLE, SILENCE, settled_until

NEWEST = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_the_newest_rows_wait_for_those_that_come_out_of_order() -> None:
    assert settled_until(NEWEST, NEWEST) == NEWEST - SETTLE == NEWEST - timedelta(seconds=1)
    assert settled_until(NEWEST, NEWEST + SILENCE) == NEWEST - SETTLE


def test_when_traffic_has_stopped_the_newest_rows_are_complete() -> None:
    assert settled_until(NEWEST, NEWEST + SILENCE + INSTANT) == NEWEST + INSTANT
