"""What a step of a shadow led to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from driftloop_rollout.machine import Event, State
from driftloop_rollout.shadow_plan import is_late
from driftloop_rollout.shadow_stage import ShadowStage
from driftloop_rollout.verdict import Word
from driftloop_settings import RolloutSettings

Outcome = Literal["hold", "proven", "harm", "skip"]
SHADOW_EVENTS: Mapping[Outcome, Event] = {
    "proven": Event.PASS,
    "harm": Event.HARM,
    "skip": Event.SKIP,
}
SHADOWED = (State.SHADOW, State.WATCHED)
"""Rollouts in these may have a version that answers unseen."""


@dataclass(frozen=True, slots=True)
class ShadowStep:
    """What a step led to. `skip`: continue with the canary without a verdict."""

    stage: ShadowStage | None
    outcome: Outcome
    reason: str
    word: Word = "undecided"
    numbers: dict[str, Any] = field(default_factory=dict)


def judged(stage: ShadowStage, rules: RolloutSettings, now: datetime) -> ShadowStep:
    verdict = stage.trial.judge()
    if verdict.action == "roll_back":
        return ShadowStep(stage, "harm", verdict.reason, verdict.word, verdict.numbers)
    agreed = stage.shown
    if verdict.action == "proven" and not stage.problem:
        stage = replace(stage, proven=verdict.proven)
        reason = verdict.reason + agreed
        return ShadowStep(stage, "proven", reason, verdict.word, verdict.numbers)
    why = "; ".join(r for r in (stage.problem, stage.waiting, verdict.reason) if r) + agreed
    if is_late(stage, rules, now):
        stage = replace(stage, proven=verdict.proven)
        reason = f"no verdict within {rules.shadow_s:g} s (rollout.shadow_s): {why}"
        return ShadowStep(stage, "skip", reason, verdict.word, verdict.numbers)
    return ShadowStep(stage, "hold", why)
