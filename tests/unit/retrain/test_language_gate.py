"""The gate for adapters, and how often it errs."""

import numpy as np
import pytest

from driftloop_retrain.language.gate import MIN_PROMPTS, check, decide, improvement, no_harm

BASE = np.full(60, 2.0)


def losses(mean: float, rows: int = 60, spread: float = 0.4, seed: int = 0) -> np.ndarray:
    return mean + spread * np.random.default_rng(seed).standard_normal(rows)


def test_a_clear_improvement_passes() -> None:
    check = improvement("held-out answers", "nats", losses(1.5), BASE)
    assert check.passed
    assert decide([check]).verdict == "passed"


def test_no_change_does_not_pass() -> None:
    assert not improvement("held-out answers", "nats", BASE, BASE).passed


def test_an_improvement_that_may_be_chance_does_not_pass_and_says_so() -> None:
    gains = np.array([0.5, -0.45] * 30)
    check = improvement("held-out answers", "nats", BASE - gains, BASE)
    assert not check.passed
    assert "chance" in check.reason


def test_too_few_prompts_are_inconclusive() -> None:
    check = improvement("held-out answers", "nats", BASE[:10] - 1, BASE[:10])
    verdict = decide([check])
    assert verdict.verdict == "inconclusive"
    assert f"{MIN_PROMPTS} are needed" in verdict.reasons[0]


def test_harm_beyond_what_is_allowed_and_beyond_chance_fails() -> None:
    better = improvement("held-out answers", "nats", losses(1.5), BASE)
    worse = no_harm("scorer", "points", np.zeros(24), np.ones(24), 0.05)
    verdict = decide([better, worse])
    assert verdict.verdict == "failed"
    assert verdict.reasons == ["scorer: worse by 1.000 points, 0.05 is allowed (p=0)"]


def test_the_scorer_decides_if_it_is_the_objective_and_may_not_fall_if_it_is_not() -> None:
    candidate, champion = losses(0.30, spread=0.05), np.full(60, 0.33)
    assert not check("scorer", "points", champion, champion, 0.05, decides=True).passed
    assert check("scorer", "points", candidate, champion, 0.05, decides=True).passed
    assert check("scorer", "points", champion, champion, 0.05, decides=False).passed
    assert not check("scorer", "points", champion + 0.2, champion, 0.05, decides=False).passed


def test_chance_excuses_unless_the_check_is_strict() -> None:
    candidate, champion = np.array([1.0, 0, 1, 1, 1]), np.ones(5)
    assert no_harm("suite", "tasks", candidate, champion, 0.05).passed
    assert not no_harm("suite", "tasks", candidate, champion, 0.05, strict=True).passed


@pytest.mark.parametrize("rows", [MIN_PROMPTS, 60, 200])
@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
def test_an_adapter_that_changes_nothing_on_average_rarely_passes(rows: int, heavy: bool) -> None:
    random = np.random.default_rng(rows)
    shape = (2_000, rows)
    noise = random.standard_t(3, shape) if heavy else random.standard_normal(shape)
    passed = [improvement("x", "nats", 2 - row * 0.2, np.full(rows, 2.0)).passed for row in noise]
    assert np.mean(passed) < 0.065


def test_half_a_nat_better_at_a_spread_of_one_nearly_always_passes_with_sixty_prompts() -> None:
    random = np.random.default_rng(3)
    passed = [
        improvement("x", "nats", 1.5 + random.standard_normal(60), np.full(60, 2.0)).passed
        for _ in range(500)
    ]
    assert np.mean(passed) > 0.95
