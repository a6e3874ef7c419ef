"""Those who ask for the status share one look at the lake."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, cast

from driftloop_gateway.lake_counter import MOST_S, PATIENCE_S, LakeCounter
from driftloop_lake.port import LakeCounts, LakeReader, Pin

AT = datetime(2026, 11, 30, tzinfo=UTC)


class Lake:
    """Its counts grow with each look, which takes `takes_s` of the clock."""

    def __init__(self) -> None:
        self.looks, self.now_s, self.takes_s = 0, 0.0, 0.0

    def pin(self, model: str) -> Pin | None:
        return None if model == "empty" else Pin(1, 1)

    def count(self, model: str, pin: Pin) -> LakeCounts:
        self.looks += 1
        self.now_s += self.takes_s
        return LakeCounts(self.looks, 0, 0)


def counter(lake: Any) -> Callable[[str], LakeCounts | None]:
    counts = LakeCounter(cast(LakeReader, lake), lambda: lake.now_s)
    return lambda model: counts([model])[model].counts


def test_many_who_ask_at_once_are_one_count() -> None:
    lake = Lake()
    ask = counter(lake)
    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(lambda _: ask("m"), range(50)))
    assert set(found) == {LakeCounts(1, 0, 0)}
    assert ask("empty") is None
    lake.now_s += 0.6
    assert ask("m") == LakeCounts(2, 0, 0)


def test_a_count_that_takes_long_is_kept_longer_and_never_gets_old() -> None:
    lake = Lake()
    ask = counter(lake)
    lake.takes_s = 0.1
    ask("m")
    lake.now_s += 1.9
    assert ask("m") == LakeCounts(1, 0, 0)
    lake.now_s, lake.takes_s = lake.now_s + 0.2, 5.0
    assert ask("m") == LakeCounts(2, 0, 0)
    lake.now_s += 3.1
    assert ask("m") == LakeCounts(3, 0, 0)


def test_of_many_models_the_oldest_counts_are_renewed_and_the_others_are_given() -> None:
    lake = Lake()
    counts = LakeCounter(cast(LakeReader, lake), lambda: lake.now_s, lambda: AT)
    lake.takes_s, names = 0.6 * PATIENCE_S, ("a", "b", "c", "d")
    found = counts(names)
    assert [found[name].at for name in names] == [AT, AT, None, None]
    lake.now_s += MOST_S
    found = counts(names)
    assert [found[name].at for name in names] == [AT, AT, AT, AT]
    assert found["a"].counts == LakeCounts(1, 0, 0)
    lake.now_s += MOST_S
    assert counts(names)["a"].counts == LakeCounts(5, 0, 0)


def test_what_is_left_is_counted_although_nobody_asks_again() -> None:
    lake = Lake()
    counts = LakeCounter(cast(LakeReader, lake), lambda: lake.now_s)
    lake.takes_s = 2 * PATIENCE_S
    found = counts(("a", "b"))
    assert found["b"].at is None
    deadline = time.monotonic() + 120
    while lake.looks < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
