"""The mean loss that is expected of rows without labels."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from driftloop_monitoring.statistics.expected_loss import LossByConfidence

Floats = NDArray[np.float64]
Score = Callable[[np.random.Generator, int], Floats]
REFERENCE, WINDOW = 4_000, 1_000
MARGIN = 0.02


def easy(random: np.random.Generator, n: int) -> Floats:
    """The true probability of the positive class."""
    return random.beta(0.3, 0.3, n)


def hard(random: np.random.Generator, n: int) -> Floats:
    return random.beta(1.0, 1.0, n)


def rows(random: np.random.Generator, draw: Score, n: int) -> tuple[Floats, Floats]:
    """What an overconfident model says of n rows, and its losses."""
    p = draw(random, n)
    said = p**3 / (p**3 + (1 - p) ** 3)
    wrong = (random.random(n) < p) != (p >= 0.5)
    return said, wrong.astype(np.float64)


def learnt(random: np.random.Generator) -> LossByConfidence:
    found = LossByConfidence.learn(*rows(random, easy, REFERENCE))
    assert found is not None
    return found


@pytest.mark.parametrize("draw", [easy, hard])
def test_the_interval_covers_what_the_labels_show_later(draw: Score) -> None:
    random, covered, off = np.random.default_rng(1), 0, []
    for _ in range(100):
        known = learnt(random)
        said, losses = rows(random, draw, WINDOW)
        found = known.expected(said)
        assert found is not None
        covered += found.low <= losses.mean() <= found.high
        off.append(found.mean - losses.mean())
    assert covered >= 89  # of 95, less chance
    assert abs(np.mean(off)) < 0.005


def test_calm_windows_never_rise_and_harder_rows_do_at_once() -> None:
    random = np.random.default_rng(2)
    calm = risen = 0
    for _ in range(10):
        known = learnt(random)
        for _ in range(50):
            found = known.expected(rows(random, easy, WINDOW)[0])
            calm += found is not None and found.clearly_above(MARGIN)
        found = known.expected(rows(random, hard, WINDOW)[0])
        risen += found is not None and found.clearly_above(MARGIN)
    assert (calm, risen) == (0, 10)


def test_a_small_certain_rise_and_a_large_uncertain_one_are_no_clear_ones() -> None:
    random = np.random.default_rng(3)
    known = learnt(random)
    few = known.expected(rows(random, hard, 5)[0])
    many = known.expected(np.concatenate([rows(random, draw, n)[0] for draw, n in (
        (easy, 95_000), (hard, 5_000))]))  # fmt: skip
    assert few is not None
    assert many is not None
    assert few.rise > MARGIN
    assert not few.clearly_above(MARGIN)
    assert 0 < many.rise < MARGIN
    assert not many.clearly_above(MARGIN)
    assert many.rise > 3 * many.rise_error


def test_rows_in_bursts_widen_the_interval() -> None:
    known = learnt(np.random.default_rng(4))
    said = rows(np.random.default_rng(5), hard, WINDOW)[0]
    alone, bursts = known.expected(said), known.expected(said, dispersion=9.0)
    assert alone is not None
    assert bursts is not None
    assert alone.mean == bursts.mean
    assert bursts.high - bursts.low > 2.5 * (alone.high - alone.low)
    assert bursts.rise_error > 1.8 * alone.rise_error


def test_without_confidence_or_labels_nothing_is_expected() -> None:
    random = np.random.default_rng(6)
    nothing = np.full(REFERENCE, np.nan)
    assert LossByConfidence.learn(nothing, nothing) is None
    assert LossByConfidence.learn(easy(random, 99), np.zeros(99)) is None
    assert learnt(random).expected(nothing) is None


def test_one_confidence_for_all_rows_expects_the_mean_loss_of_the_reference() -> None:
    losses = np.tile([0.0, 0.0, 0.0, 1.0], 500)
    known = LossByConfidence.learn(np.full(2_000, 0.5), losses)
    assert known is not None
    found = known.expected(np.full(300, 0.5))
    assert found is not None
    assert found.mean == pytest.approx(0.25)
    assert found.rise == pytest.approx(0.0)
    assert found.low < 0.25 < found.high
