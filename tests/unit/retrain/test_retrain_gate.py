import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from driftloop_retrain.tabular.evaluate import ColumnSlice
from driftloop_retrain.tabular.gate import GateResult, gate
from driftloop_settings import RetrainSettings

SETTINGS = RetrainSettings()


def judged(
    rows: int, better: float, seed: int, error: float = 0.085, slices: int = 0
) -> GateResult:
    """A candidate that is right where the champion errs in 30 % of those rows, and wrong in so many
    of the others that its error is `better` less: what two trained models look like. In slices of a
    tenth of the rows, no harm is allowed."""
    random = np.random.default_rng(seed)
    champion = random.random(rows) < error
    breaks = (0.3 * error - better) / (1 - error)
    candidate = np.where(champion, random.random(rows) >= 0.3, random.random(rows) < breaks)
    parts = [ColumnSlice(f"s{n}", random.random(rows) < 0.1) for n in range(slices)]
    losses = candidate.astype(float), champion.astype(float)
    return gate("classification", *losses, parts, SETTINGS, max_regression=0.0)


def passes(rows: int, better: float, runs: int = 400) -> float:
    return sum(judged(rows, better, seed).verdict == "passed" for seed in range(runs)) / runs


def test_a_candidate_two_points_better_passes_nearly_always() -> None:
    assert passes(1_200, 0.02) > 0.98


def test_a_candidate_two_points_worse_passes_hardly_ever() -> None:
    assert passes(1_200, -0.02) < 0.02


def test_a_candidate_as_good_passes_about_half_the_time() -> None:
    assert 0.3 < passes(1_200, 0.0) < 0.6


def test_the_same_answers_are_no_improvement() -> None:
    losses = np.array([0.0, 1.0] * 200)
    result = gate("classification", losses, losses, [], SETTINGS)
    assert result.verdict == "failed"
    assert "is required" in result.reasons[0]


def test_too_few_rows_are_inconclusive() -> None:
    result = gate("classification", np.zeros(50), np.ones(50), [], SETTINGS)
    assert result.verdict == "inconclusive"
    assert "50 hold-out rows" in result.reasons[0]


def test_harm_on_a_slice_fails_though_the_whole_is_better() -> None:
    champion = np.r_[np.ones(300), np.zeros(700)]
    candidate = np.r_[np.zeros(300), np.ones(100), np.zeros(600)]
    part = ColumnSlice("region=north", np.arange(1_000) >= 300)
    result = gate("classification", candidate, champion, [part], SETTINGS)
    assert result.verdict == "failed"
    assert [check.name for check in result.checks if not check.passed] == ["region=north"]


def test_a_slice_a_little_worse_by_chance_does_not_fail() -> None:
    random = np.random.default_rng(0)
    champion, candidate = (random.random(1_000) < p for p in (0.3, 0.2))
    part = ColumnSlice("x=1", np.arange(1_000) < 100)
    champion[:100] = np.arange(100) < 20
    candidate[:100] = (np.arange(100) >= 20) & (np.arange(100) < 46)
    result = gate(
        "classification", candidate.astype(float), champion.astype(float), [part], SETTINGS
    )
    assert result.verdict == "passed"


def test_forty_slices_without_harm_fail_no_more_often_than_one() -> None:
    def harmed(slices: int) -> float:
        found = [judged(3_000, 0.0, seed, slices=slices).checks[1:] for seed in range(400)]
        return sum(not all(check.passed for check in checks) for checks in found) / len(found)

    assert 0.0 < harmed(1) < 0.08
    assert 0.0 < harmed(40) < 0.08


def test_values_are_judged_relative_to_the_champions_error() -> None:
    random = np.random.default_rng(1)
    champion = random.chisquare(1, 1_000) * 1e6
    result = gate("regression", champion * 0.9, champion, [], SETTINGS)
    assert result.verdict == "passed"
    assert abs(result.checks[0].improvement - 0.1) < 1e-9


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=100, max_size=300))
def test_what_passes_is_better_and_swapping_the_sides_never_passes_both(
    pairs: list[tuple[bool, bool]],
) -> None:
    candidate, champion = (np.array(side, float) for side in zip(*pairs, strict=True))
    forth = gate("classification", candidate, champion, [], SETTINGS)
    back = gate("classification", champion, candidate, [], SETTINGS)
    assert not (forth.verdict == back.verdict == "passed")
    if forth.verdict == "passed":
        assert candidate.mean() < champion.mean()
