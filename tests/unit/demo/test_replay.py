"""Which rows a demo's application asks for."""

from hypothesis import given
from hypothesis import strategies as st

from driftloop_demo.replay import KEPT_ROWS, Replay

LIMIT = 3 * KEPT_ROWS
sizes = st.lists(st.integers(KEPT_ROWS // 50, KEPT_ROWS // 2), min_size=1, max_size=100)


@given(sizes, sizes)
def test_a_new_version_answers_no_row_that_came_before_it(old: list[int], new: list[int]) -> None:
    replay = Replay(LIMIT)
    taken = [replay.take(size, new_version=False) for size in old]
    measured = [replay.take(size, new_version=True) for size in new]
    assert max(end for _, end in taken) <= min(start for start, _ in measured)
    assert all(start < end <= LIMIT for start, end in taken + measured)


@given(sizes)
def test_rows_come_in_order_until_they_come_again(wanted: list[int]) -> None:
    replay = Replay(LIMIT)
    expected = 0
    for size in wanted:
        start, end = replay.take(size, new_version=False)
        assert start == expected
        assert end - start <= size
        expected = end if end < LIMIT - KEPT_ROWS else LIMIT - 2 * KEPT_ROWS


def test_no_row_is_left_out_where_none_had_to_come_again() -> None:
    replay = Replay(LIMIT)
    rows = [replay.take(KEPT_ROWS, new_version=number >= 2) for number in range(4)]
    assert [start for start, _ in rows] == [0, KEPT_ROWS, 2 * KEPT_ROWS, 2 * KEPT_ROWS]
