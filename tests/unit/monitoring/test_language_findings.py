"""Windows of a language model against its reference: what is found, and how often by chance."""

import json
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pyarrow as pa

from driftloop_contracts.judgement import CheckKind, Finding, Severity
from driftloop_contracts.model import ModelSpec
from driftloop_monitoring.state.checks import window_findings
from driftloop_monitoring.state.reference import Reference, reference_of
from driftloop_monitoring.statistics import evidently_adapter
from driftloop_monitoring.statistics.drift import DriftRule
from driftloop_monitoring.text.topics import separation

SPEC = ModelSpec("chat", "generation", "text", runtime="vllm")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
COOKING = (
    "bread", "oven", "flour", "yeast", "butter", "sugar", "salt", "pan", "knife", "recipe",
    "dough", "milk",
)  # fmt: skip
LAW = (
    "contract", "court", "judge", "appeal", "clause", "tenant", "lease", "lawyer", "statute",
    "verdict",
)  # fmt: skip


def prompts(rng: np.random.Generator, count: int, words: tuple[str, ...]) -> list[str]:
    return [
        f"What can you tell me about {' and '.join(rng.choice(words, rng.integers(2, 6)))}?"
        for _ in range(count)
    ]


def rows(
    seed: int,
    count: int = 1_200,
    *,
    words: tuple[str, ...] = COOKING,
    length: float = 40.0,
    empty: float = 0.01,
    refusing: float = 0.02,
) -> pa.Table:
    rng = np.random.default_rng(seed)
    texts = []
    for size in rng.poisson(length, count):
        text = " ".join(
            rng.choice(["the", "loaf", "is", "baked", "with", "care", "of", "an", "hour"], size + 1)
        )
        roll = rng.random()
        texts.append(
            "" if roll < empty else "I'm sorry, I can't say." if roll < empty + refusing else text
        )
    asked = [json.dumps([{"role": "user", "content": p}]) for p in prompts(rng, count, words)]
    return pa.table(
        {
            "in_messages": asked,
            "in_parameters": ["{}"] * count,
            "in_operation": ["chat.completions"] * count,
            "out_text": texts,
            "out_tool_calls": [""] * count,
            "out_finish_reason": ["stop"] * count,
            "out_token_s": pa.array(rng.gamma(20.0, 0.001, count), pa.float32()),
        }
    )


@cache
def reference() -> Reference:
    return reference_of(SPEC, rows(0), live=True)


def found(window: pa.Table) -> list[Finding]:
    return window_findings(
        reference(),
        window,
        model="chat",
        version=1,
        window_id="w",
        at=NOW,
        rule=DriftRule(0.1, 0.001),
        distance=evidently_adapter.distance,
    )


def columns(findings: list[Finding]) -> set[str]:
    return {column for finding in findings for column in finding.columns}


def test_windows_like_the_reference_find_nothing() -> None:
    """Five windows of 1,200 answers, some fifteen columns each: no false finding."""
    assert [f for seed in range(1, 6) for f in found(rows(seed))] == []


def test_shorter_answers_and_more_refusals_only_warn() -> None:
    findings = found(rows(1, length=20.0, refusing=0.2))
    assert {"answer_words", "refusal"} <= columns(findings)
    assert all(f.severity is Severity.WARNING for f in findings)
    assert all(f.kind is CheckKind.PREDICTION_DRIFT for f in findings)


def test_prompts_of_another_topic_warn() -> None:
    (topic,) = [f for f in found(rows(1, words=LAW)) if f.check == "topics"]
    assert (topic.kind, topic.severity) == (CheckKind.DRIFT, Severity.WARNING)
    assert topic.effect > 0.9


def test_answers_that_come_empty_are_an_alert() -> None:
    (critical,) = [f for f in found(rows(1, empty=0.4)) if f.severity is Severity.CRITICAL]
    assert (critical.kind, critical.columns) == (CheckKind.QUALITY, ("empty",))


def test_topics_are_seldom_told_apart_by_chance() -> None:
    """20 pairs of samples from one distribution: p < .05 in 4 at most (P(more) < .003)."""
    rng = np.random.default_rng(7)
    p = [
        found.significance
        for _ in range(20)
        if (found := separation(prompts(rng, 300, COOKING), prompts(rng, 300, COOKING)))
    ]
    assert len(p) == 20
    assert sum(value < 0.05 for value in p) <= 4


def test_few_different_prompts_say_nothing_of_topics() -> None:
    assert separation(["the same"] * 5_000, ["another"] * 5_000) is None
