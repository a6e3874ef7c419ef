from hypothesis import given
from hypothesis import strategies as st

from driftloop_retrain.language.packing import pack


@given(st.lists(st.integers(1, 50), max_size=40))
def test_every_example_is_in_one_row_and_no_row_is_wider_than_the_longest(
    lengths: list[int],
) -> None:
    rows = pack(lengths)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[number] for number in row) <= max(lengths) for row in rows)


def test_short_ones_share_a_row() -> None:
    assert pack([10, 4, 3, 3]) == [[0], [1, 2, 3]]
