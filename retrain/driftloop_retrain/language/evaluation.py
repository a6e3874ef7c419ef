"""Compares candidate and champion on prompts that neither was trained on in this retrain."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.language.adapter_scoring import CANDIDATE, CHAMPION, Arms
from driftloop_retrain.language.examples import Example, normalised
from driftloop_retrain.language.gate import check, decide, improvement, no_harm
from driftloop_retrain.language.options import Scorer, find_scorer
from driftloop_retrain.language.port import EncodedPair, Needs
from driftloop_retrain.language.suite import general_prompts, read_suite
from driftloop_retrain.language.tokens import Encoded
from driftloop_retrain.record.gate_result import Check, GateResult, Scores
from driftloop_settings import TuningSettings

NATS = "nats per token"
ALLOWED_NATS = 0.1
"""How much less likely the wanted answers may become if the gate tests for a preference."""
SCORE = "points of 1"
SCORED_PROMPTS = 100
"""That are answered, at least, if the scorer decides and as many were held out."""
GENERAL_TOKENS = 32
SUITE_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Sample:
    """A held-out prompt and its answers. `wanted`: the corrected answer, or one that was rated
    well."""

    prompt: str
    champion: str
    candidate: str
    wanted: str


@dataclass(frozen=True)
class Evaluation:
    gate: GateResult
    metrics: dict[str, float]
    champion_metrics: dict[str, float]
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class HeldOut:
    """Examples with their tokens, and pairs."""

    examples: tuple[tuple[Example, Encoded], ...]
    pairs: tuple[EncodedPair, ...]


class _Judge:
    """Collects the metrics of both arms and the checks on them."""

    def __init__(self, arms: Arms, champion: str | None) -> None:
        self.arms, self.champion = arms, champion
        self.checks: list[Check] = []
        self.metrics: dict[str, float] = {}
        self.champion_metrics: dict[str, float] = {}

    def add(self, check: Check, decides: bool) -> None:
        """decides: it is the overall one."""
        self.checks.insert(0 if decides else len(self.checks), check)

    def note(self, name: str, candidate: Scores, champion: Scores) -> None:
        if len(candidate):
            self.metrics[name] = float(candidate.mean())
            self.champion_metrics[name] = float(champion.mean())

    def losses(self, answers: Sequence[Encoded]) -> tuple[Scores, Scores]:
        """Return (candidate's, champion's) losses."""
        return self.arms.losses(answers, CANDIDATE), self.arms.losses(answers, self.champion)

    def answers(self, prompts: Sequence[Sequence[int]], tokens: int) -> tuple[list[str], list[str]]:
        ours = self.arms.answers(prompts, CANDIDATE, tokens)
        return ours, self.arms.answers(prompts, self.champion, tokens)


def evaluate(
    spec: ModelSpec,
    settings: TuningSettings,
    needs: Needs,
    base: Path,
    candidate: Path,
    champion: Path | None,
    held: HeldOut,
) -> Evaluation:
    """Evaluate a candidate. champion: its adapter; None: the base itself. Raises Rejected if the
    spec names a scorer or a suite that cannot be used."""
    adapters = {CANDIDATE: candidate} | ({CHAMPION: champion} if champion else {})
    scorer = find_scorer(spec.options)
    arms = Arms(base, adapters, settings)
    judge = _Judge(arms, CHAMPION if champion else None)
    by_scorer = spec.objective is not None and spec.objective.metric == "scorer"
    _likelihood(judge, needs, held, decides=not by_scorer)
    samples = _generated(judge, settings, scorer, held, decides=by_scorer)
    if spec.options.get("regression"):
        _suite(judge, settings, Path(str(spec.options["regression"])))
    else:
        _general(judge, settings)
    return Evaluation(decide(judge.checks), judge.metrics, judge.champion_metrics, samples)


def _likelihood(judge: _Judge, needs: Needs, held: HeldOut, *, decides: bool) -> None:
    """decides: whether the candidate must be better by it; else it may not do harm."""
    ours, theirs = judge.losses([encoded for _, encoded in held.examples])
    judge.note("loss", ours, theirs)
    better, worse = [p.better for p in held.pairs], [p.worse for p in held.pairs]
    ours_better, theirs_better = judge.losses(better)
    ours_worse, theirs_worse = judge.losses(worse)
    judge.note(
        "preference",
        *(
            (b < w).astype(float)
            for b, w in ((ours_better, ours_worse), (theirs_better, theirs_worse))
        ),
    )
    if needs == "answers":
        judge.add(
            check("held-out answers", NATS, ours, theirs, ALLOWED_NATS, decides=decides), decides
        )
        return
    if decides:
        gains = ours_better - ours_worse, theirs_better - theirs_worse
        judge.add(improvement("held-out preferences", NATS, *gains), True)
    name = "preferred answers"
    judge.checks.append(no_harm(name, NATS, -ours_better, -theirs_better, ALLOWED_NATS))


def _generated(
    judge: _Judge,
    settings: TuningSettings,
    scorer: Scorer | None,
    held: HeldOut,
    *,
    decides: bool,
) -> tuple[Sample, ...]:
    """decides: whether the candidate must be better by the scorer, on more prompts then."""
    most = max(settings.generated, SCORED_PROMPTS) if decides else settings.generated
    asked = held.examples[max(0, len(held.examples) - most) :] if most else ()
    if not asked and not decides:
        return ()
    prompts = [encoded.prompt for _, encoded in asked]
    ours, theirs = judge.answers(prompts, settings.generated_tokens)
    wanted = [normalised(example.answer) for example, _ in asked]
    exact = [
        np.array([normalised(a) == w for a, w in zip(side, wanted, strict=True)], np.float64)
        for side in (ours, theirs)
    ]
    judge.note("exact_match", exact[0], exact[1])
    if scorer is not None:
        scored = [
            np.array([_score(scorer, e, a) for (e, _), a in zip(asked, side, strict=True)])
            for side in (ours, theirs)
        ]
        judge.note("score", scored[0], scored[1])
        lost = 1 - scored[0], 1 - scored[1]
        judge.add(check("scorer", SCORE, *lost, settings.max_regression, decides=decides), decides)
    return tuple(
        Sample(example.conversation.prompt, before, after, example.answer)
        for (example, _), before, after in zip(asked, theirs, ours, strict=True)
    )


def _score(scorer: Scorer, example: Example, answer: str) -> float:
    messages = [{"role": m.role, "content": m.content} for m in example.conversation.messages]
    score = float(scorer(messages, answer))
    if not 0.0 <= score <= 1.0:
        raise Rejected(f"options.scorer gave {score} for an answer: it must give 0 to 1")
    return score


def _suite(judge: _Judge, settings: TuningSettings, path: Path) -> None:
    tasks = read_suite(path)
    prompts = [judge.arms.tokens.prompt(task.conversation) for task in tasks]
    met = [
        np.array([task.met(answer) for task, answer in zip(tasks, side, strict=True)], np.float64)
        for side in judge.answers(prompts, SUITE_TOKENS)
    ]
    judge.note("regression", met[0], met[1])
    judge.checks.append(
        no_harm(
            "regression suite",
            "of the tasks",
            met[0],
            met[1],
            settings.max_regression,
            strict=True,
        )
    )


def _general(judge: _Judge, settings: TuningSettings) -> None:
    """Compare with the base, not the champion, so that small steps of many retrains do not add
    up."""
    arms, conversations = judge.arms, general_prompts()
    told = arms.answers([arms.tokens.prompt(c) for c in conversations], None, GENERAL_TOKENS)
    encoded = [arms.tokens.encode(c, text) for c, text in zip(conversations, told, strict=True)]
    ours, own = arms.losses(encoded, CANDIDATE), arms.losses(encoded, None)
    judge.note("general_loss", ours, arms.losses(encoded, judge.champion))
    judge.checks.append(
        no_harm("general prompts", NATS, -ours, -own, settings.max_forgetting, strict=True)
    )
