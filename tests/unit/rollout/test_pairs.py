"""The tests by pairs: what they promise, and what they survive."""

import json
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_rollout.pairs import (
    LEAST_PAIRS,
    UNKNOWN_EFFECT,
    Dependence,
    PairMetric,
    PairTest,
    PairTrial,
)
from driftloop_rollout.verdict import BETS, Rule

QUALITY = Rule("quality", 0.02, True, share=0.5)


def differences(rng: np.random.Generator, n: int, differ: float, effect: float) -> np.ndarray:
    worse = rng.random(n) < (1 + effect / differ) / 2
    return np.where(rng.random(n) < differ, np.where(worse, 1.0, -1.0), 0.0)


def losses(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(found, 0.0), np.maximum(-found, 0.0)


def judged(found: np.ndarray) -> str:
    return PairTrial((PairMetric.start(QUALITY),)).update({"quality": losses(found)}).judge().action


def expected_wealth(test: PairTest, law: dict[float, float], rows: int, effect: float) -> float:
    """Of the mean bet after `rows` independent rows with this law, at the design effect 1, or of
    rows that are all alike."""
    total = 0.0
    for outcome in product(law, repeat=rows):
        after = test.update(np.array(outcome), 0.1, effect)
        chance = float(np.prod([law[x] for x in outcome]))
        total += chance * float(np.exp(after.log_wealth).mean())
    return total


@given(st.floats(0.0, 1.0), st.floats(-1.0, 1.0), st.sampled_from([1, -1]))
def test_no_bet_gains_on_average_if_its_hypothesis_is_true(
    differ: float, lean: float, side: int
) -> None:
    law = {1.0: differ * (1 + lean) / 2, -1.0: differ * (1 - lean) / 2, 0.0: 1 - differ}
    mean = law[1.0] - law[-1.0]
    for d0 in (0.0, 0.02, -0.02):
        if side * (mean - d0) <= 0:
            assert expected_wealth(PairTest(d0, side, 0.02), law, 2, 1.0) <= 1 + 1e-9


@given(st.floats(0.0, 1.0), st.integers(1, 30))
def test_rows_that_repeat_each_other_count_as_one(differ: float, group: int) -> None:
    law = {1.0: differ / 2, -1.0: differ / 2, 0.0: 1 - differ}
    total = sum(
        chance * np.exp(PairTest(0.0, 1, 0.02).update(np.full(group, x), 0.1, group).log_wealth)
        for x, chance in law.items()
    )
    assert (total <= 1 + 1e-9).all()


@pytest.mark.parametrize(("effect", "action"), [(0.0, "proven"), (0.02, "roll_back")])
def test_the_verdict_follows_the_difference(effect: float, action: str) -> None:
    found = differences(np.random.default_rng(1), 8_000, 0.04, effect)
    assert judged(found) == action
    assert judged(found[:300]) == "hold"


def test_where_the_versions_agree_a_verdict_needs_few_rows() -> None:
    assert judged(np.zeros(1_500)) == "proven"
    assert judged(np.zeros(LEAST_PAIRS - 1)) == "hold"


def test_a_guard_that_lacks_rows_is_left_to_the_canary() -> None:
    rng = np.random.default_rng(0)
    guard = Rule("slice small", 0.02, False, 0.05, share=0.5)
    trial = PairTrial((PairMetric.start(QUALITY), PairMetric.start(guard)))
    few = np.array([0.0])
    for _ in range(400):
        rows = losses(differences(rng, 50, 0.04, 0.0))
        trial = trial.update({"quality": rows, "slice small": (few, few)})
        verdict = trial.judge()
        if verdict.action != "hold":
            break
    assert (verdict.action, verdict.proven) == ("proven", ("quality",))


def test_harm_in_a_slice_rolls_back_though_the_whole_is_better() -> None:
    rng = np.random.default_rng(3)
    guard = Rule("slice new", 0.02, False, 0.05, share=0.5)
    trial = PairTrial((PairMetric.start(QUALITY), PairMetric.start(guard)))
    whole = differences(rng, 3_000, 0.05, -0.01)
    part = differences(rng, 3_000, 0.2, 0.15)
    verdict = trial.update({"quality": losses(whole), "slice new": losses(part)}).judge()
    assert verdict.action == "roll_back"
    assert verdict.reason.startswith("slice new")


def bursts(rng: np.random.Generator) -> np.ndarray:
    return np.repeat(differences(rng, 300, 0.1, 0.0), 20)


def alone(rng: np.random.Generator) -> np.ndarray:
    return differences(rng, 6_000, 0.1, 0.0)


@pytest.mark.parametrize(("rows", "low", "high"), [(alone, 1.0, 2.0), (bursts, 14.0, 36.0)])
def test_the_design_effect_is_that_of_the_rows(
    rows: Callable[[np.random.Generator], np.ndarray], low: float, high: float
) -> None:
    found = rows(np.random.default_rng(5))
    whole = Dependence().update(found)
    assert low <= whole.effect <= high
    parts = Dependence()
    for at in range(0, len(found), 7):  # blocks go on over the parts in which rows come
        parts = parts.update(found[at : at + 7])
    assert parts.effect == pytest.approx(whole.effect)
    assert Dependence().update(found[:100]).effect == UNKNOWN_EFFECT


def test_a_trial_survives_json() -> None:
    trial = PairTrial((PairMetric.start(QUALITY),))
    trial = trial.update({"quality": losses(alone(np.random.default_rng(0)))})
    assert PairTrial.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial
    assert len(trial.metrics[0].worse.log_wealth) == len(BETS)


def test_rows_without_a_loss_do_not_count() -> None:
    metric = PairMetric.start(QUALITY)
    nothing = np.array([np.nan, 0.0])
    after = metric.update(nothing, nothing[::-1].copy())
    assert after.rows == 0
