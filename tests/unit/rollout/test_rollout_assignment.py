"""What was drawn for rows, when it may be used, and what it says when users differ."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from driftloop_contracts.model import ModelSpec, TrafficSplit
from driftloop_evaluation.settling import SILENCE
from driftloop_rollout.arm_rows import ArmRows, us_of
from driftloop_rollout.assignment import CUT_OFF, NO_HISTORY, DrawnRows, SplitSpan, drawn
from driftloop_rollout.evidence import RolloutEvidence, extend, start
from driftloop_rollout.margins import Margins
from driftloop_rollout.units import NO_KEY, KeyHistory, spread_of
from driftloop_rollout.verdict import Metric, Rule, Trial

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
EPOCH_S = 60.0
SPAN = SplitSpan("r1", 0.5, START, EPOCH_S, started=START)
FOREVER = replace(SPAN, sticky_s=None)
MARGINS = Margins(0.02, 0.01, 0.1, 0.05, 0.0, 0.98)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def rows(seconds: Sequence[float], keys: Sequence[int], loss: Any = 0.0) -> ArmRows:
    """A request of one row at each time, answered by the arm that SPAN draws for its key; without
    one (NO_KEY) by turns."""
    n, split = len(keys), SPAN.split
    drawn_for = [
        split.arm_of(key, split.epoch(after(s).timestamp()))[1] if key != NO_KEY else i % 2
        for i, (s, key) in enumerate(zip(seconds, keys, strict=True))
    ]
    return ArmRows(
        np.array([us_of(after(s)) for s in seconds]),
        np.array(drawn_for) == 1,
        np.ones(n, bool),
        np.full(n, 0.01),
        np.zeros(n, bool),
        np.ones(n, bool),
        np.broadcast_to(np.asarray(loss, float), n).copy(),
        np.full(n, np.nan),
        np.array(keys, np.int64),
    )


def units_of(found: DrawnRows) -> Any:
    return found.units(found.rows.loss, NO_HISTORY, 0.1, 0.0)


def test_a_unit_is_a_key_in_an_epoch_with_all_its_rows() -> None:
    given = rows([1, 2, 30, 61, 62], [7, 8, 7, 7, NO_KEY], [1, 0, 1, 1, 0])
    found = units_of(drawn(given, [SPAN]))
    assert sorted(zip(found.rows.tolist(), found.loss.tolist(), strict=True)) == [
        (1.0, 0.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (2.0, 2.0),
    ]


def test_what_was_drawn_counts_and_not_what_answered() -> None:
    """A late replica answers with the previous epoch; this must not influence which rows are
    compared."""
    given = rows(np.linspace(0, 59, 200).tolist(), list(range(200)))
    late = replace(given, canary=~given.canary)
    np.testing.assert_array_equal(drawn(late, [SPAN]).canary, given.canary)


def test_each_step_has_draws_of_its_own_and_nothing_counts_before_all_replicas_have_it() -> None:
    second = SplitSpan("r1", 0.25, after(90), EPOCH_S, 0.5, started=after(100))
    given = rows([10, 70, 95, 105, 160], [7] * 5)
    found = drawn(given, [replace(SPAN, ended=after(90)), second])
    assert found.counts.tolist() == [True, True, False, True, True]
    assert len(set(found.draw[found.counts].tolist())) == 4
    assert found.share[found.counts].tolist() == [0.5, 0.5, 0.25, 0.25]
    assert found.closes[1] == us_of(after(90))  # the step ended within its epoch


def test_a_key_that_never_changes_its_arm_counts_once_a_step() -> None:
    day = CUT_OFF.total_seconds()
    given = rows([10, 1_000, day - 1, day + 1], [7] * 4, 1.0)
    found = units_of(drawn(given, [FOREVER]))
    assert (found.rows.tolist(), found.loss.tolist()) == ([3.0], [3.0])


def test_when_the_weight_rises_only_keys_of_the_stable_arm_are_drawn() -> None:
    keys = list(range(4_000))
    first = replace(FOREVER, weight=0.25, ended=after(3_600))
    second = replace(FOREVER, since=after(3_600), started=after(3_600), before=0.25)
    now = drawn(rows([3_700] * len(keys), keys), [first, second])
    split = TrafficSplit(0, 1, 0.25, "r1")
    stable = np.array([split.arm_of(key, 0)[1] == 0 for key in keys])
    np.testing.assert_array_equal(now.counts, stable)
    assert now.share[stable] == pytest.approx(1 / 3)
    assert now.canary[stable].mean() == pytest.approx(1 / 3, abs=0.03)


def test_an_arm_without_rows_is_silent_if_draws_would_have_filled_it() -> None:
    few, many = rows([1] * 10, [NO_KEY] * 10), rows([1] * 40, [NO_KEY] * 40)
    for given, silent in ((few, False), (many, True)):
        alone = replace(given, canary=np.zeros(len(given.at), bool))
        assert drawn(alone, [SPAN]).has_silent_arm is silent
        assert not drawn(given, [SPAN]).has_silent_arm


# -- when it is used -----------------------------------------------------------------------------


def begun() -> RolloutEvidence:
    past = rows(np.linspace(0, 10, 400).tolist(), [NO_KEY] * 400)
    spec = ModelSpec("m", "classification", "label")
    found = start(spec, MARGINS, (0.5,), replace(past, canary=past.canary & False), None, START)
    assert found is not None
    return found.with_step("r1", 0.5, EPOCH_S, START, True, START)


def counted(evidence: RolloutEvidence, name: str) -> int:
    metric = evidence.trial.metric(name)
    assert metric is not None
    return metric.canary_count + metric.stable_count


def test_an_epoch_with_keys_is_used_once_it_is_over_and_whole() -> None:
    everything = rows(np.arange(0, 150, 0.5).tolist(), [n % 40 for n in range(300)])
    seen, used = begun(), []
    for second in range(1, 150):
        visible = everything.between(START, after(second))
        seen = extend(seen, visible, visible, MARGINS, after(second))
        # As after a restart.
        seen = RolloutEvidence.from_dict(seen.to_dict())
        assert counted(seen, "errors") == counted(seen, "quality")
        used.append(counted(seen, "errors"))
    assert sorted(set(used)) == [0, 120, 240]
    at_once = extend(begun(), everything, everything, MARGINS, after(149))
    assert at_once.trial.to_dict()["metrics"][0]["canary_sum"] == pytest.approx(
        seen.trial.to_dict()["metrics"][0]["canary_sum"]
    )


def test_requests_without_a_key_are_used_at_once() -> None:
    everything = rows(np.arange(0, 50, 0.5).tolist(), [NO_KEY] * 100)
    seen = extend(begun(), everything, everything, MARGINS, after(50) + SILENCE)
    assert (counted(seen, "errors"), counted(seen, "quality")) == (100, 100)


def test_keys_that_come_within_an_epoch_hold_back_only_what_follows() -> None:
    keys = [NO_KEY] * 60 + [n % 7 for n in range(40)]
    everything = rows(np.arange(0, 50, 0.5).tolist(), keys)
    seen = extend(begun(), everything, everything, MARGINS, after(50) + timedelta(seconds=5))
    assert counted(seen, "errors") == 60
    later = extend(seen, everything, everything, MARGINS, after(61) + SILENCE)
    assert counted(later, "errors") == 100


# -- what is expected of a key -------------------------------------------------------------------


def test_a_key_is_expected_to_do_as_it_did_the_more_the_more_of_it_was_seen() -> None:
    history = KeyHistory(np.array([3, 5]), np.array([1.0, 99.0]), np.array([1.0, 99.0]), 0.01)
    expected, spread = history.expect(np.array([3, 5, 4]), 0.1)
    assert 0.1 == expected[2] < expected[0] < 0.3 < 0.9 < expected[1] < 1.0
    assert spread[1] < spread[0] < spread[2] == pytest.approx(0.01)


def test_how_far_keys_differ_is_learned() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 20_000)
    alike = (rng.random(20_000) < 0.1).astype(float)
    assert spread_of(groups, alike) == pytest.approx(0.0, abs=0.001)
    own = rng.beta(0.9, 8.1, 400)  # variance .009
    differing = (rng.random(20_000) < own[groups]).astype(float)
    assert spread_of(groups, differing) == pytest.approx(0.009, rel=0.35)
    assert spread_of(np.arange(100), alike[:100]) is None


# -- what it says --------------------------------------------------------------------------------


def walk(seed: int, effect: float, epochs: int) -> str:
    """Half of 500 users with Zipf activity get the canary in each epoch; their errors correlate."""
    rng = np.random.default_rng(seed)
    own, activity = rng.beta(0.9, 8.1, 500), 1 / np.arange(1, 501)
    trial = Trial((Metric.start(Rule("quality", 0.02, True), (0.5,), 0.1),))
    span = replace(SPAN, salt=str(seed))
    keys, losses = np.zeros(0, np.int64), np.zeros(0)
    for epoch in range(epochs):
        user = rng.choice(500, 1_000, p=activity / activity.sum())
        given = rows(np.linspace(0, 59, 1_000).tolist(), [NO_KEY] * 1_000)
        given = replace(given, key=user, at=given.at + us_of(after(60 * epoch)) - us_of(START))
        found = drawn(given, [span])
        loss = (rng.random(1_000) < own[user] + found.canary * effect).astype(float)
        q = trial.metrics[0].q
        trial = trial.update({"quality": found.units(loss, KeyHistory.of(keys, losses), q, 0.0)})
        verdict = trial.judge(0, 1)
        if verdict.action != "hold":
            return verdict.action
        keys = np.append(keys, user[~found.canary])
        losses = np.append(losses, loss[~found.canary])
    return "hold"


def test_an_equal_canary_is_not_rolled_back_because_users_differ() -> None:
    """Treating rows as exchangeable rolled back every third rollout."""
    assert [walk(seed, 0.0, 15) for seed in range(12)].count("roll_back") == 0


def test_harm_is_seen_within_a_few_epochs() -> None:
    assert [walk(seed, 0.08, 12) for seed in range(6)].count("roll_back") == 6
