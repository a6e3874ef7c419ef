"""In which order rows are trained on."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from driftloop_retrain.language.training import batch_order

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 20))
def test_all_rows_come_equally_often_up_to_one(lengths: list[int], batch: int, steps: int) -> None:
    order = batch_order(lengths, batch, steps, 0)
    assert len(order) == batch * steps
    counts = Counter(order)
    often = [counts[row] for row in range(len(lengths))]
    assert max(often) - min(often) <= 1


def test_a_longer_training_begins_as_a_shorter_one() -> None:
    lengths = list(range(40))
    assert batch_order(lengths, 8, 20, 3)[:80] == batch_order(lengths, 8, 10, 3)
    assert batch_order(lengths, 8, 10, 3) != batch_order(lengths, 8, 10, 4)


def test_a_batch_holds_rows_of_like_length() -> None:
    lengths = [10, 90] * 40
    order = batch_order(lengths, 8, 10, 0)
    batches = [order[start : start + 8] for start in range(0, 80, 8)]
    assert all(len({lengths[row] for row in batch}) == 1 for batch in batches)
