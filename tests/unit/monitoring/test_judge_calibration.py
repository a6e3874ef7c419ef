"""When may a judge count? How often chance lets one through, looked at after every 20 answers; and
what the ratings' test makes of scores, which have a smaller reference."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from driftloop_judge.calibration import (
    MIN_OF_EACH,
    Rated,
    agreement,
    doubt,
    rated_well,
)
from driftloop_monitoring.statistics.performance import LossBaseline, Rule, State, update

Draw = Callable[[np.random.Generator, NDArray[np.bool_], float], NDArray[np.float64]]


def graded(rng: np.random.Generator, well: NDArray[np.bool_], area: float) -> NDArray[np.float64]:
    """Whole numbers from 0 to 10, as an endpoint gives them; the area before they are rounded."""
    latent = rng.normal(0, 1, len(well)) + well * norm.ppf(area) * np.sqrt(2)
    return np.clip(np.round(latent * 2 + 5), 0, 10) / 10


def passed(rng: np.random.Generator, well: NDArray[np.bool_], area: float) -> NDArray[np.float64]:
    """Yes or no."""
    return (rng.random(len(well)) < np.where(well, area, 1 - area)).astype(float)


def torn(rng: np.random.Generator, well: NDArray[np.bool_], area: float) -> NDArray[np.float64]:
    """Badly rated answers are above or below all others: no judge of this area varies more."""
    return np.where(well, 0.2 + 0.6 * rng.random(len(well)), rng.random(len(well)) > area)


JUDGES: dict[str, Draw] = {"graded": graded, "passed": passed, "torn": torn}


def lets_through(
    draw: Draw, area: float, share: float, looks: range, runs: int, seed: int
) -> float:
    """The share of judges that count at one of the looks. share: of well-rated answers."""
    rng, through = np.random.default_rng(seed), 0
    for _ in range(runs):
        well = rng.random(looks[-1]) < share
        rated = list(zip(well.tolist(), draw(rng, well, area).tolist(), strict=True))
        through += any(not doubt(rated[:count], 100, 0.7) for count in looks)
    return through / runs


LOOKS = range(100, 501, 20)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_that_guesses_is_let_through_in_less_than_one_percent(
    name: str, share: float
) -> None:
    assert lets_through(JUDGES[name], 0.5, share, LOOKS, 600, seed=21) < 0.01


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_with_an_area_of_60_is_let_through_in_five_percent_at_most(
    name: str, share: float
) -> None:
    assert lets_through(JUDGES[name], 0.6, share, LOOKS, 600, seed=22) <= 0.05


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("name", ["graded", "passed"])
def test_one_look_at_a_judge_at_the_border_lets_through_five_percent_or_little_more(
    name: str, share: float
) -> None:
    assert lets_through(JUDGES[name], 0.7, share, range(300, 301), 1_000, seed=23) < 0.075


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("name", ["graded", "passed"])
def test_a_judge_with_an_area_of_85_nearly_always_counts_after_300_answers(
    name: str, share: float
) -> None:
    assert lets_through(JUDGES[name], 0.85, share, range(300, 301), 400, seed=24) >= 0.98


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(25)
    well = rng.random(80) < 0.6
    scores = graded(rng, well, 0.8)
    pairs = [(a > b) + (a == b) / 2 for a in scores[well] for b in scores[~well]]
    found = agreement(list(zip(well.tolist(), scores.tolist(), strict=True)))
    assert found is not None
    assert found.area == pytest.approx(np.mean(pairs))
    assert (found.well, found.badly) == (well.sum(), (~well).sum())
    assert 0 < found.lower < found.area


def test_the_bound_never_leaves_0_to_1_and_perfect_order_has_doubt_left() -> None:
    perfect: list[Rated] = [(True, 1.0)] * 50 + [(False, 0.0)] * 20
    found, inverse = agreement(perfect), agreement([(not well, score) for well, score in perfect])
    assert found is not None
    assert inverse is not None
    assert found.area == 1.0
    assert 0.7 < found.lower < 0.98
    assert (inverse.area, inverse.lower) == (0.0, 0.0)


def test_a_judge_whose_scores_are_all_alike_does_not_count() -> None:
    assert "0.50" in doubt([(True, 0.8)] * 150 + [(False, 0.8)] * 150, 100, 0.7)


def test_too_few_answers_are_said_with_their_number() -> None:
    good: list[Rated] = [(True, 0.9)] * 90
    assert doubt(good, 100, 0.7).startswith("90 of at least 100 answers")
    few: list[Rated] = [(False, 0.1)] * (MIN_OF_EACH - 1)
    assert "19 of at least 20 answers are badly rated" in doubt(good + few, 100, 0.7)
    assert "0 of at least 20 answers are well rated" in doubt([(False, 0.1)] * 100, 100, 0.7)
    assert not doubt([*good, *few, (False, 0.1)], 100, 0.7)


@pytest.mark.parametrize(
    ("rating", "well"),
    [(1.0, True), (0.75, True), (0.5, None), (0.25, False), (0.0, False), (float("nan"), None)],
)
def test_the_middle_of_a_scale_is_neither(rating: float, well: bool | None) -> None:
    assert rated_well(rating) is well


def windows_until_alert(fall: float, windows: int, seed: int) -> int | None:
    """Of 32 scores each, against 400 of the reference, whose losses spread by .25."""
    rng, state, rule = (
        np.random.default_rng(seed),
        State(),
        Rule(0.05, 1e5, rhythm=False, independent=True),
    )
    baseline = LossBaseline.of(np.clip(rng.normal(0.3, 0.25, 400), 0, 1))
    times = np.full(32, datetime(2026, 11, 24, tzinfo=UTC).timestamp())
    for window in range(windows):
        losses = np.clip(rng.normal(0.3 + fall, 0.25, 32), 0, 1)
        state = update(state, losses, times, baseline, rule)
        if state.alert is not None:
            return window + 1
    return None


def test_scores_that_stay_do_not_alert() -> None:
    assert sum(windows_until_alert(0.0, 120, seed) is not None for seed in range(100)) <= 1


def test_scores_that_fall_by_20_points_alert_within_four_windows_nearly_always() -> None:
    assert sum(windows_until_alert(0.2, 4, seed) is not None for seed in range(100)) >= 95
