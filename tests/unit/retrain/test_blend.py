"""When the trials of a search are worth being an ensemble."""

from dataclasses import replace

import numpy as np
import pytest

from driftloop_retrain.tabular.dataset import Span
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.tuning.blend import Blend, blend_of
from driftloop_retrain.tabular.tuning.trial import Trial

CLASSES = np.arange(2)
ROWS = 600


def blend(
    seed: int, shared: float, own: float, *, trials: int = 30, most: int = 4
) -> tuple[Blend | None, Trial]:
    """Of trials whose scores miss those of the labels by an error that all share, and one of their
    own (standard deviations)."""
    dice = np.random.default_rng(seed)
    scores = dice.normal(size=ROWS)
    labels = (scores > 0).astype(int)
    common = scores + dice.normal(size=ROWS) * shared

    def answers(one: np.ndarray) -> Outputs:
        p = 1 / (1 + np.exp(-one))
        both = np.column_stack([1 - p, p]).astype(np.float32)
        return {"label": (p > 0.5).astype(int), "probabilities": both}

    def judge(outputs: Outputs) -> Trial:
        losses = (outputs["label"] != labels).astype(float)
        return Trial("trees", Span("all", "all rows"), 1, losses, {})

    outputs = [answers(common + dice.normal(size=ROWS) * own) for _ in range(trials)]
    found = [replace(judge(each), number=n) for n, each in enumerate(outputs)]
    best = min(found, key=lambda trial: trial.mean_loss)
    return blend_of(best, found, outputs.__getitem__, judge, most, CLASSES), best


def test_trials_that_err_alike_are_seldom_an_ensemble() -> None:
    assert sum(blend(seed, 0.5, 0.1)[0] is not None for seed in range(100)) <= 1


def test_trials_that_err_differently_are_one_and_seem_no_better_than_they_are() -> None:
    gains = []
    for seed in range(20):
        found, best = blend(seed, 0.1, 1.2)
        assert found is not None
        assert 2 <= len(found.members) <= 4
        assert sum(weight for _, weight in found.members) == pytest.approx(1.0)
        gains.append(best.mean_loss - found.trial.mean_loss)
    assert np.mean(gains) > 0.03


def test_one_member_is_no_ensemble() -> None:
    assert blend(0, 0.1, 0.8, most=1)[0] is None
    assert blend(0, 0.1, 0.8, trials=1)[0] is None


def test_a_half_in_which_no_row_counts_judges_nothing() -> None:
    losses = np.r_[np.zeros(5), np.full(5, np.nan)]
    trial = Trial("trees", Span("all", "all rows"), 1, losses, {})
    assert blend_of(trial, [trial], lambda _: {}, lambda _: trial, 4, CLASSES) is None
