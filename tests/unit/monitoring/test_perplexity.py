"""Nats per token of corrected texts: which are drawn, and how often a rise is found by chance."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from driftloop_monitoring.statistics.perplexity import MAX_TEXTS, REFERENCE_TEXTS, corrected, rise

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
DRAWS: dict[str, Draw] = {
    "normal": lambda rng, count: rng.normal(2.0, 1.0, count),
    "heavy-tailed": lambda rng, count: rng.lognormal(0.5, 0.9, count),
}


def rows(count: int, **columns: object) -> pa.Table:
    """Correction i was received i seconds after noon."""
    given = {
        "prediction_id": [f"p{i}" for i in range(count)],
        "row": [0] * count,
        "in_messages": [
            json.dumps([{"role": "user", "content": f"What is {i}?"}]) for i in range(count)
        ],
        "in_parameters": ["{}"] * count,
        "in_operation": ["chat.completions"] * count,
        "label": [json.dumps(f" It is {i}. ") for i in range(count)],
        "label_at": pa.array(
            [NOON + timedelta(seconds=i) for i in range(count)], pa.timestamp("us", tz="UTC")
        ),
    }
    return pa.table({**given, **columns})


def test_a_window_asks_for_the_same_sample_of_what_came_in_it() -> None:
    calls = corrected(rows(200), NOON + timedelta(seconds=99), "chat", 3)
    assert len(calls) == MAX_TEXTS
    assert {(c.model, c.version, c.chat) for c in calls} == {("chat", 3, True)}
    numbers = [int(c.text.removeprefix("It is ").removesuffix(".")) for c in calls]
    assert min(numbers) >= 100
    assert numbers != sorted(numbers)
    assert [f"What is {n}?" for n in numbers] == [c.messages[0]["content"] for c in calls]
    assert calls == corrected(rows(200)[::-1], NOON + timedelta(seconds=99), "chat", 3)


@pytest.mark.parametrize(
    "columns",
    [
        {"label": ["null"] * 3},  # taken back
        {"label": ['" "'] * 3},
        {"in_messages": ["5f4dcc3b"] * 3},  # hashed before it was kept
        {"in_messages": pa.array([None] * 3, pa.string())},
        {"in_parameters": ['{"tools": []}'] * 3},
    ],
)
def test_what_is_no_text_to_a_known_conversation_is_not_asked(columns: dict[str, object]) -> None:
    before = NOON - timedelta(seconds=1)
    assert corrected(rows(3, **columns), before, "chat", 1) == []
    assert not corrected(rows(1).drop_columns(["in_messages"]), before, "chat", 1)


def test_a_plain_prompt_is_continued_as_one() -> None:
    (call,) = corrected(rows(1, in_operation=["completions"]), NOON - timedelta(1), "chat", 1)
    assert not call.chat


@pytest.mark.parametrize("count", [8, MAX_TEXTS])
@pytest.mark.parametrize("name", DRAWS)
def test_texts_that_are_as_likely_seldom_rise(name: str, count: int) -> None:
    """3,000 pairs of samples: p < .05 in less than 6.5 % of them, p < .001 in six at most
    (expected: three or fewer; P(more than six) < .04, and the seed stays)."""
    rng = np.random.default_rng(11)
    p = []
    for _ in range(3_000):
        reference, window = DRAWS[name](rng, REFERENCE_TEXTS), DRAWS[name](rng, count)
        found = rise(list(reference), list(window))
        assert found is not None
        p.append(found.significance)
    assert np.mean(np.array(p) < 0.05) < 0.065
    assert sum(value < 0.001 for value in p) <= 6


def test_texts_that_became_a_nat_dearer_are_nearly_always_found() -> None:
    """At a spread of one nat, with a full sample: 80 % or more at p < .001 and a rise of half a
    nat."""
    rng = np.random.default_rng(12)
    hits = 0
    for _ in range(500):
        reference, window = rng.normal(2, 1, REFERENCE_TEXTS), rng.normal(3, 1, MAX_TEXTS)
        found = rise(list(reference), list(window))
        hits += found is not None and found.effect >= 0.5 and found.significance < 0.001
    assert hits >= 400


def test_few_texts_say_nothing() -> None:
    assert rise([1.0] * REFERENCE_TEXTS, [9.0] * 7) is None
    assert rise([1.0] * (REFERENCE_TEXTS - 1), [9.0] * 32) is None
