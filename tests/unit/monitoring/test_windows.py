from datetime import UTC, datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_monitoring.statistics.positions import Position
from driftloop_monitoring.statistics.windows import (
    LABEL_BLOCK,
    Cut,
    cut,
    labelled_prefix,
    stable_id,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def cut_at(waiting: int, age_s: float = 9.0, span_s: float = 1.0) -> Cut | None:
    """Of rows that came evenly over `span_s`, the first of them `age_s` ago."""
    first = np.datetime64(NOW.replace(tzinfo=None), "us") - np.timedelta64(round(age_s * 1e6), "us")
    at = first + (np.arange(waiting) * (span_s * 1e6 / waiting)).astype("timedelta64[us]")
    return cut(at, NOW, window_rows=2_000, least_seconds=5.0, window_seconds=3_600.0, min_rows=500)


def test_a_window_closes_when_it_has_its_rows() -> None:
    assert cut_at(1_999) is None
    assert cut_at(2_000) == Cut("count", 2_000)
    assert cut_at(5_000, age_s=99.0, span_s=90.0) == Cut("count", 2_000)


def test_a_window_spans_its_least_time_however_many_rows_come() -> None:
    assert cut_at(90_000, age_s=4.9, span_s=4.8) is None
    assert cut_at(90_000, age_s=9.5, span_s=9.0) == Cut("count", 50_000)


def test_a_window_closes_when_its_time_is_over() -> None:
    assert cut_at(700, age_s=3_600) == Cut("time", 700)


def test_a_thin_window_is_inconclusive() -> None:
    found = cut_at(499, age_s=4_000)
    assert found is not None
    assert "only 499" in found.reason


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=500), st.integers(0, 100))
def test_labels_are_used_in_order_and_only_once_nearly_all_are_in(
    labelled: list[bool], old: int
) -> None:
    known = np.array(labelled, dtype=bool)
    ages = np.where(np.arange(len(known)) < old, 1e6, 1.0)
    taken = labelled_prefix(known, ages, coverage=0.95, timeout_s=1e5)
    for start in range(0, taken, LABEL_BLOCK):
        block = slice(start, min(start + LABEL_BLOCK, taken))
        full = len(known[block]) == LABEL_BLOCK
        assert (full and known[block].mean() >= 0.95) or ages[block].min() >= 1e5


def test_rows_whose_labels_never_come_do_not_hold_up_the_others_for_ever() -> None:
    labelled = np.array([False] * 100 + [True] * 100)
    ages = np.full(200, 50.0)
    assert labelled_prefix(labelled, ages, coverage=0.95, timeout_s=60) == 0
    assert labelled_prefix(labelled, ages, coverage=0.95, timeout_s=40) == 200


def test_positions_order_rows_and_survive_the_store() -> None:
    first, second = Position(NOW, "a", 1), Position(NOW, "a", 2)
    assert first < second < Position(NOW, "b", 0)
    assert Position.from_dict(first.to_dict()) == first
    assert stable_id("m", first) == stable_id("m", first) != stable_id("m", second)
