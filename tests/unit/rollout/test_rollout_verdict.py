import json
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_rollout.units import Units
from driftloop_rollout.verdict import (
    BettingTest,
    Metric,
    Rule,
    Trial,
    Verdict,
    first_rung,
    observations_needed,
    seconds_needed,
    smallest_effect,
)

RUNGS = (0.05, 0.25, 0.5)
QUALITY = Rule("quality", 0.02, decisive=True)
ERRORS = Rule("errors", 0.01, decisive=False)
LATENCY = Rule("latency", 0.1, decisive=False)


def draw(rng: np.random.Generator, n: int, p: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return (rng.random(n) < p).astype(np.float64)


def start(quality: float = 0.085) -> Trial:
    return Trial(
        (
            Metric.start(QUALITY, RUNGS, quality),
            Metric.start(ERRORS, RUNGS, 0.0),
            Metric.start(LATENCY, RUNGS, 0.01),
        )
    )


def walk(
    rng: np.random.Generator,
    canary: float,
    *,
    stable: float = 0.085,
    failing: float = 0.0,
    slow: float = 0.01,
    ticks: int = 200,
    count: int = 500,
    rows: int = 1,
) -> tuple[Verdict, int]:
    """Run the ladder over simulated traffic; return the last verdict and the number of rows."""
    trial, rung, total = start(stable), 0, 0
    verdict = trial.judge(0, len(RUNGS))
    for _ in range(ticks):
        total += count * rows
        q = {m.rule.name: m.q for m in trial.metrics}
        w = RUNGS[rung]
        trial = trial.update(
            {
                "quality": requests(rng, count, w, (canary, stable), q["quality"], rows),
                "errors": requests(rng, count, w, (failing, 0.0), q["errors"]),
                "latency": requests(rng, count, w, (slow, 0.01), q["latency"]),
            }
        )
        verdict = trial.judge(rung, len(RUNGS))
        if verdict.action in ("promote", "roll_back"):
            break
        rung += verdict.action == "advance"
    return verdict, total


def units(canary: Any, stable: Any, share: float, expected: float) -> Units:
    return Units.of_rows(np.asarray(canary), np.asarray(stable), share, expected)


def requests(
    rng: np.random.Generator, n: int, share: float, rates: Any, q: float, rows: int = 1
) -> Units:
    """Return n requests of several rows, each drawn for an arm. rates: of the canary and the stable
    arm."""
    canary = rng.random(n) < share
    loss = rng.binomial(rows, np.where(canary, *rates)).astype(float)
    return Units(
        canary, np.full(n, share), np.full(n, float(rows)), loss, np.full(n, q), np.zeros(n)
    )


KINDS = [(0.0, 1), (0.0, -1), (-0.02, 1), (0.02, -1), (0.2, -1)]


@st.composite
def alike(draw: st.DrawFn) -> tuple[Units, Any]:
    """A few units of any kind with their losses on the stable arm, before any draw."""
    n = draw(st.integers(1, 5))

    def each(low: float, high: float) -> Any:
        return np.array(draw(st.lists(st.floats(low, high), min_size=n, max_size=n)))

    rows = np.array(draw(st.lists(st.integers(1, 300), min_size=n, max_size=n)), float)
    share, expected, spread = each(0.01, 0.99), each(0.0, 1.0), each(0.0, 0.2)
    lost = each(0.0, 1.0) * rows
    return Units(np.zeros(n, bool), share, rows, lost, expected, spread), lost


@given(st.sampled_from(KINDS), alike())
@settings(max_examples=200)
def test_no_bet_gains_on_average_over_the_draws(kind: tuple[float, int], given: Any) -> None:
    """The wealth is a supermartingale under the null hypothesis, for any losses of the units: if
    the canary loses d0 more on each row, the mean over all possible draws does not grow."""
    one, lost = given
    test, n, d0 = BettingTest(*kind, 0.02), len(one), kind[0]
    lost = lost * (1 - abs(d0)) + max(0.0, -d0) * one.rows  # that of the canary is in range then
    wealth = np.zeros(len(test.log_wealth))
    for number in range(2**n):
        canary = (number >> np.arange(n)) % 2 == 1
        chance = np.where(canary, one.share, 1 - one.share).prod()
        after = test.update(replace(one, canary=canary, loss=lost + canary * d0 * one.rows))
        wealth += chance * np.exp(after.log_wealth)
    np.testing.assert_allclose(wealth, 1.0, rtol=1e-9)


@pytest.mark.parametrize("losses", [[0.0], [0.0, 1.0], [0.0, 0.2, 1.0]])
def test_equal_units_are_counted_and_say_the_same(losses: list[float]) -> None:
    rng, n = np.random.default_rng(len(losses)), 400
    canary, share, rows = rng.random(n) < 0.3, np.full(n, 0.3), rng.integers(1, 4, n).astype(float)
    many = Units(canary, share, rows, rng.choice(losses, n) * rows, np.full(n, 0.1), np.zeros(n))
    few, counts = many.counted()
    assert len(few) <= 2 * 3 * 3 * len(losses)
    assert counts.sum() == n
    one_by_one = BettingTest(0.02, -1, 0.02)
    for k in range(0, n, 40):  # so few are not counted
        part = slice(k, k + 40)
        some = (many.canary, many.share, many.rows, many.loss, many.expected, many.spread)
        one_by_one = one_by_one.update(Units(*(each[part] for each in some)))
    at_once = BettingTest(0.02, -1, 0.02).update(many)
    np.testing.assert_allclose(at_once.log_wealth, one_by_one.log_wealth, rtol=1e-9)


def test_units_that_differ_in_what_was_expected_are_not_counted() -> None:
    n = 100
    each = np.linspace(0.1, 0.2, n)
    many = Units(np.zeros(n, bool), np.full(n, 0.3), np.ones(n), np.zeros(n), each, np.zeros(n))
    found, counts = many.counted()
    assert found is many
    assert counts.tolist() == [1.0] * n


@given(st.sampled_from(KINDS), alike(), st.lists(st.booleans(), min_size=5, max_size=5))
def test_no_unit_loses_all(kind: tuple[float, int], given: Any, arms: list[bool]) -> None:
    one, _ = given
    canary = np.array(arms[: len(one)])
    for loss in (np.zeros(len(one)), one.rows):
        after = BettingTest(*kind, 0.02).update(replace(one, canary=canary, loss=loss))
        assert min(after.log_wealth) >= len(one) * log(0.1) - 1e-9


@given(st.integers(0, 2**32), st.integers(1, 6))
@settings(max_examples=30)
def test_a_trial_that_went_through_json_goes_on_as_if_it_had_not(seed: int, ticks: int) -> None:
    rng = np.random.default_rng(seed)
    plain = stored = start()
    for _ in range(ticks):
        tick = {
            m.rule.name: units(draw(rng, 9, 0.2), draw(rng, 30, 0.1), 0.25, m.q)
            for m in plain.metrics
        }
        plain = plain.update(tick)
        stored = Trial.from_dict(json.loads(json.dumps(stored.update(tick).to_dict())))
    assert stored == plain


def test_nothing_new_changes_nothing() -> None:
    trial = start()
    assert trial.update({"quality": units([], [], 0.05, 0.1)}) == trial


def test_nothing_is_judged_from_nothing() -> None:
    assert start().judge(0, 3).action == "hold"
    assert start().judge(2, 3).action == "hold"


def test_a_better_candidate_is_promoted_in_well_under_12000_rows() -> None:
    found = [walk(np.random.default_rng(seed), 0.063) for seed in range(20)]
    assert {verdict.action for verdict, _ in found} == {"promote"}
    assert np.median([rows for _, rows in found]) < 11_000


def test_a_harmful_candidate_is_rolled_back_within_seconds_of_canary_traffic() -> None:
    found = [walk(np.random.default_rng(seed), 0.2) for seed in range(20)]
    assert {(verdict.action, verdict.word) for verdict, _ in found} == {("roll_back", "worse")}
    assert np.median([rows for _, rows in found]) <= 5_000


def test_an_equal_candidate_is_seldom_rolled_back() -> None:
    actions = [walk(np.random.default_rng(seed), 0.085)[0].action for seed in range(100)]
    assert actions.count("roll_back") <= 4  # 1 % is stated; 4 of 100 has a chance of .003 then


def test_a_candidate_worse_by_the_margin_is_seldom_promoted() -> None:
    actions = [walk(np.random.default_rng(seed), 0.105)[0].action for seed in range(100)]
    assert actions.count("promote") <= 4


def test_a_candidate_whose_requests_fail_is_rolled_back_after_a_few() -> None:
    verdict, rows = walk(np.random.default_rng(0), 0.06, failing=0.5)
    assert (verdict.action, verdict.reason.split(":")[0]) == ("roll_back", "errors")
    assert rows <= 10_000


def test_a_slow_candidate_is_rolled_back() -> None:
    verdict, _ = walk(np.random.default_rng(0), 0.08, slow=0.6)
    assert (verdict.action, verdict.reason.split(":")[0]) == ("roll_back", "latency")


def test_a_guard_has_to_be_seen_before_a_promotion() -> None:
    rng = np.random.default_rng(0)
    trial = start()
    for _ in range(60):
        trial = trial.update({"quality": requests(rng, 500, 0.5, (0.05, 0.085), 0.085)})
    verdict = trial.judge(2, 3)
    assert verdict.action == "hold"
    assert "errors" in verdict.reason
    assert "quality" not in verdict.reason


def test_the_word_says_how_much_is_known() -> None:
    def word(canary: float) -> str:
        rng, trial = np.random.default_rng(1), start()
        for _ in range(100):
            trial = trial.update(
                {
                    "quality": requests(rng, 600, 0.5, (canary, 0.085), 0.085),
                    "errors": units(np.zeros(15), np.zeros(15), 0.5, 0.001),
                    "latency": units(np.zeros(15), np.zeros(15), 0.5, 0.01),
                }
            )
        return trial.judge(2, 3).word

    assert word(0.05) == "better"
    assert word(0.085) == "equivalent"


def test_the_estimate_of_the_verdict_is_of_the_right_size() -> None:
    """For half the traffic and a canary equal to the champion."""
    needed = observations_needed(0.1, 0.5, 0.02, 0.01)
    taken = []
    for seed in range(20):
        rng, test, n = np.random.default_rng(seed), BettingTest(0.02, -1, 0.02), 0
        while test.best < log(100):
            test, n = test.update(requests(rng, 200, 0.5, (0.1, 0.1), 0.1)), n + 100
        taken.append(n)
    assert needed / 2 < np.median(taken) < needed * 2
    assert smallest_effect(0.1, 0.5, 0.01, 200.0, needed / 100) == pytest.approx(0.02, rel=0.01)
    assert seconds_needed(0.1, 0.0, 0.02, 0.01, 200.0) == float("inf")


def test_rungs_too_thin_for_their_gate_are_skipped() -> None:
    day = 86_400.0
    assert first_rung(QUALITY, RUNGS, 0.085, per_s=500.0, deadline_s=day) == 0
    assert first_rung(QUALITY, RUNGS, 0.085, per_s=0.36, deadline_s=day) == 1
    assert first_rung(QUALITY, RUNGS, 0.085, per_s=0.0001, deadline_s=day) == 2


def test_harm_in_one_of_many_slices_needs_more_evidence() -> None:
    """The 1 % of false rollbacks is of all metrics together."""
    metric = Metric.start(QUALITY, RUNGS, 0.1)
    harmed = replace(metric, worse=replace(metric.worse, best=log(150)))
    slices = [Metric.start(Rule(f"slice {n}", 0.02, False), RUNGS, 0.1) for n in range(3)]
    assert Trial((harmed,)).harmed() is harmed
    assert Trial((harmed, *slices)).harmed() is None
