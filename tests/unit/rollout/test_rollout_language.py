"""Adapters of a language model: what is served together with them, and what they are judged by."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_evaluation.scorer import scorer_of
from driftloop_rollout.arm_rows import read_arm_rows
from driftloop_rollout.evidence import RolloutEvidence, extend, start
from driftloop_rollout.machine import Rollout, State
from driftloop_rollout.margins import Margins
from driftloop_rollout.observer import margins
from driftloop_rollout.output_quality import form_scorer, malformed
from driftloop_rollout.traffic import baseless, desired, trimmed
from driftloop_settings import LlmSettings, RolloutSettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CHAT = ModelSpec("chat", "generation", "text", "lora-sft", runtime="vllm")
RUNGS = (0.5,)


def served(version: int, base: int | None = None) -> ServedVersion:
    return ServedVersion(version, f"/models/{version}", SIGNATURE, base)


def rollout(state: State, champion: ServedVersion, candidate: ServedVersion) -> Rollout:
    return Rollout("r", "chat", state, 1, NOW, candidate, "asked", (0.5, 1.0), champion=champion)


# -- what is served ------------------------------------------------------------------------------
BASE, OLD, NEW = served(1), served(2, base=1), served(3, base=1)


def test_the_base_stays_beside_its_promoted_adapter() -> None:
    deployment = Deployment(CHAT, (BASE, OLD), TrafficSplit(2))
    for keep in (0, 1):
        assert trimmed(rollout(State.PROMOTING, BASE, OLD), deployment, keep).versions == (
            BASE,
            OLD,
        )


def test_a_former_adapter_leaves_when_its_successor_is_promoted() -> None:
    deployment = Deployment(CHAT, (BASE, OLD, NEW), TrafficSplit(3))
    for keep in (0, 1):
        assert trimmed(rollout(State.PROMOTING, OLD, NEW), deployment, keep).versions == (BASE, NEW)


def test_a_rolled_back_adapter_leaves_and_the_base_stays() -> None:
    deployment = Deployment(CHAT, (BASE, OLD, NEW), TrafficSplit(2, 3, 0.5, "r"))
    after = desired(rollout(State.ROLLING_BACK, OLD, NEW), deployment)
    assert (after.versions, after.split) == ((BASE, OLD), TrafficSplit(2))


def test_new_weights_of_their_own_replace_base_and_adapter() -> None:
    whole = served(4)
    deployment = Deployment(CHAT, (BASE, NEW, whole), TrafficSplit(4))
    assert trimmed(rollout(State.PROMOTING, NEW, whole), deployment, 0).versions == (whole,)


def test_an_adapter_whose_base_is_gone_is_known_for_it() -> None:
    assert baseless(NEW, Deployment(CHAT, (served(4),), TrafficSplit(4)))
    assert not baseless(NEW, Deployment(CHAT, (BASE,), TrafficSplit(1)))
    assert not baseless(served(5), Deployment(CHAT, (BASE,), TrafficSplit(1)))


# -- what it is judged by ------------------------------------------------------------------------
def answers(
    seed: int,
    count: int,
    canary: dict[str, float],
    stable: dict[str, float],
    *,
    since: float = 0.0,
    share: float = 0.5,
    rated: float = 1.0,
    canary_rated: float | None = None,
) -> pa.Table:
    """Return one answer per second; an arm has rates of `down` thumbs, `empty` and `failed`
    answers."""
    rng = np.random.default_rng(seed)
    is_canary = rng.random(count) < share

    def happens(name: str) -> np.ndarray:
        rates = np.where(is_canary, canary.get(name, 0.0), stable.get(name, 0.0))
        return np.asarray(rng.random(count) < rates)

    down, empty, failed = happens("down"), happens("empty"), happens("failed")
    shares = np.where(is_canary, rated if canary_rated is None else canary_rated, rated)
    known = (rng.random(count) < shares) & ~failed
    thumbs = [("0" if d else "1") if k else None for d, k in zip(down, known, strict=True)]
    at = [NOW + timedelta(seconds=since + i) for i in range(count)]
    return pa.table(
        {
            "arm": np.where(is_canary, "canary", "stable").tolist(),
            "version": pa.array(np.where(is_canary, 2, 1), pa.int32()),
            "row": pa.array([0] * count, pa.int32()),
            "predicted_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "latency_s": pa.array([2.0] * count, pa.float32()),
            "error": pa.array(["it broke" if f else None for f in failed], pa.string()),
            "in_messages": ['[{"role": "user", "content": "Hi"}]'] * count,
            "in_parameters": ["{}"] * count,
            "in_operation": ["chat.completions"] * count,
            "out_text": pa.array(
                [None if f else "" if e else "Hello" for f, e in zip(failed, empty, strict=True)],
                pa.string(),
            ),
            "out_tool_calls": [""] * count,
            "out_finish_reason": ["stop"] * count,
            "out_token_s": pa.array(np.where(is_canary, 0.3, 0.1), pa.float32()),
            "label": pa.array(thumbs, pa.string()),
            "label_number": pa.array(
                [None if t is None else float(t) for t in thumbs], pa.float64()
            ),
        }
    )


def limits(**llm: Any) -> Margins:
    return margins(RolloutSettings(), LlmSettings(rating_age_s=60.0, **llm))


def begun(stable: dict[str, float], limit: Margins, seed: int = 0) -> RolloutEvidence:
    past = read_arm_rows(answers(seed, 300, {}, stable, share=0.0), CHAT, None, 1, 2)
    found = start(CHAT, limit, RUNGS, past, None, NOW + timedelta(seconds=300))
    assert found is not None
    taken = NOW + timedelta(seconds=300)
    return found.with_step("r1", 0.5, 300.0, taken, True, taken)


def judged(
    canary: dict[str, float],
    stable: dict[str, float],
    *,
    seed: int = 0,
    limit: Margins | None = None,
    ticks: int = 40,
    **how: Any,
) -> tuple[str, RolloutEvidence]:
    """Return the first verdict and the evidence of up to `ticks` times 60 answers."""
    limit = limit or limits()
    seen = begun(stable, limit, seed)
    for tick in range(ticks):
        since = 300.0 + 60 * tick
        table = answers(seed * 1_000 + tick, 60, canary, stable, since=since, **how)
        rows = read_arm_rows(table, CHAT, None, 1, 2)
        # Looked at when the tick's answers are old enough, and the lake complete.
        seen = extend(seen, rows, rows, limit, NOW + timedelta(seconds=since + 130))
        verdict = seen.trial.judge(0, len(RUNGS))
        if verdict.action != "hold":
            return verdict.action, seen
    return "hold", seen


POOR, GOOD = {"down": 0.95}, {"down": 0.05}


def test_a_canary_that_people_like_better_is_promoted() -> None:
    action, seen = judged(GOOD, POOR)
    assert action == "promote"
    assert seen.trial.judge(0, 1).word == "better"


def test_a_canary_that_people_like_less_is_rolled_back() -> None:
    action, seen = judged(POOR, GOOD)
    assert action == "roll_back"
    assert seen.trial.judge(0, 1).reason.startswith("quality")


@pytest.mark.parametrize(("what", "metric"), [("empty", "format"), ("failed", "errors")])
def test_malformed_answers_and_errors_roll_back_whatever_the_ratings(
    what: str, metric: str
) -> None:
    action, seen = judged({**GOOD, what: 0.5}, GOOD)
    assert action == "roll_back"
    assert seen.trial.judge(0, 1).reason.startswith(metric)


def test_seconds_per_token_count_only_where_the_settings_say_so() -> None:
    """The simulated canary is three times slower, like adapters on a CPU."""
    assert judged(GOOD, POOR)[0] == "promote"
    slow = judged(GOOD, POOR, limit=limits(judge_latency=True))
    assert slow[0] == "roll_back"


def test_few_ratings_take_longer_and_say_the_same() -> None:
    action, seen = judged(GOOD, POOR, ticks=200, rated=0.1)
    assert action == "promote"
    assert {m.rule.name: m.canary_count for m in seen.trial.metrics}["quality"] < 100


def test_arms_that_are_not_rated_alike_are_not_compared() -> None:
    """Satisfied users may not rate, so half as many ratings are not comparable ratings."""
    action, seen = judged(GOOD, POOR, rated=0.9, canary_rated=0.4, ticks=10)
    assert action == "hold"
    assert "labels" in seen.waiting


def test_error_rates_under_simulation() -> None:
    """30 rollouts each of 1,200 answers, with 70 % thumbs up: an equal canary is never rolled back,
    one that is 20 points worse always is, and is never promoted."""
    same = [judged({"down": 0.3}, {"down": 0.3}, seed=s, ticks=20)[0] for s in range(30)]
    worse = [judged({"down": 0.5}, {"down": 0.3}, seed=s, ticks=20)[0] for s in range(30)]
    assert same.count("roll_back") == 0
    assert worse.count("promote") == 0
    assert worse.count("roll_back") >= 27


# -- whether an answer is well formed -------------------------------------------------------------
def form(
    text: str | None, *, reason: str = "stop", operation: str = "chat.completions", **asked: Any
) -> pa.Table:
    return pa.table(
        {
            "in_messages": ['[{"role": "user", "content": "Hi"}]'],
            "in_parameters": [json.dumps(asked)],
            "in_operation": [operation],
            "out_text": pa.array([text], pa.string()),
            "out_tool_calls": [""],
            "out_finish_reason": [reason],
        }
    )


def polite(messages: list[dict[str, Any]], answer: str) -> float:
    assert messages[0]["content"] == "Hi"
    if answer == "crash":
        raise ValueError(answer)
    return float("please" in answer)


def test_a_scorer_of_the_spec_says_how_well_formed_an_answer_is() -> None:
    spec = replace(CHAT, options={"scorer": f"{__name__}:polite"})
    scorer = scorer_of(spec)
    scores = [malformed(form(text), scorer)[0] for text in ("yes please", "no", "")]
    assert scores == [0.0, 1.0, 1.0]
    assert np.isnan(malformed(form("crash"), scorer)[0])


@pytest.mark.parametrize(
    "table", [form(None), form("", operation="embeddings"), form("a", reason="abort")]
)
def test_what_is_no_answer_is_not_judged_by_its_form(table: pa.Table) -> None:
    assert np.isnan(malformed(table, None)[0])


def test_json_that_was_asked_for_must_be_json() -> None:
    wanted = {"response_format": {"type": "json_object"}}
    assert malformed(form("{}", **wanted), None)[0] == 0.0
    assert malformed(form("Sure!", **wanted), None)[0] == 1.0


def test_a_scorer_that_is_not_there_is_named() -> None:
    with pytest.raises(Rejected, match="nowhere:polite"):
        scorer_of(replace(CHAT, options={"scorer": "nowhere:polite"}))


def over(messages: list[dict[str, Any]], answer: str) -> float:
    return 7.0


def nan_only(messages: list[dict[str, Any]], answer: str) -> float:
    return float("nan")


def away(messages: list[dict[str, Any]], answer: str) -> float:
    raise RuntimeError("away")


@pytest.mark.parametrize(
    ("named", "why"),
    [
        (f"{__name__}:over", "options.scorer gave 7: it must give 0 to 1"),
        (f"{__name__}:nan_only", "options.scorer gave NaN"),
        (f"{__name__}:away", "options.scorer raised RuntimeError: away"),
        ("nowhere:polite", "options.scorer 'nowhere:polite' cannot be imported"),
    ],
)
def test_a_scorer_that_gives_no_score_is_inconclusive_and_proves_nothing(
    named: str, why: str
) -> None:
    scorer = form_scorer(replace(CHAT, options={"scorer": named}))
    rows = read_arm_rows(answers(1, 60, GOOD, POOR), CHAT, None, 1, 2, scorer)
    assert np.isnan(rows.malformed[~rows.failed]).all()
    assert why in rows.problem
    limit = limits()
    seen = extend(begun(POOR, limit), rows, rows, limit, NOW + timedelta(seconds=400))
    assert why in seen.problem


def test_a_scorer_that_fails_for_one_answer_judges_the_others() -> None:
    scorer = scorer_of(replace(CHAT, options={"scorer": f"{__name__}:polite"}))
    assert scorer is not None
    assert np.isnan(malformed(form("crash"), scorer)[0])
    assert malformed(form("please"), scorer)[0] == 0.0
    assert scorer.problem == ""
