"""The confidence sequence of a mean of losses."""

import numpy as np
import pytest

from driftloop_evaluation.confidence_sequence import confidence_sequence


@pytest.mark.parametrize("p", [0.02, 0.3])
def test_nearly_all_histories_stay_within_at_every_look(p: float) -> None:
    random, looks = np.random.default_rng(1), np.arange(100, 20_000, 100)
    left = 0
    for _ in range(200):
        means = np.cumsum(random.random(20_000) < p)[looks - 1] / looks
        ends = [confidence_sequence(float(m), int(n)) for m, n in zip(means, looks, strict=True)]
        left += any(not low <= p <= high for low, high in ends)
    assert left <= 15  # of 200: 5 %, and chance


def test_it_narrows_and_rows_in_bursts_widen_it() -> None:
    widths = [high - low for low, high in (confidence_sequence(0.1, n) for n in (100, 1e4, 1e6))]
    assert widths == sorted(widths, reverse=True)
    assert widths[1] == pytest.approx(0.018, abs=0.002)
    low, high = confidence_sequence(0.1, 1e4, dispersion=4.0)
    assert high - low == pytest.approx(2 * widths[1])


def test_a_mean_of_nothing_is_not_certain() -> None:
    assert confidence_sequence(0.0, 100)[1] > 0.02
    assert confidence_sequence(1.0, 100)[0] < 0.98
