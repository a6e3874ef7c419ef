"""What keeps a good verdict from being acted upon: words of the model's policy. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from driftloop_rollout.evidence import RolloutEvidence
from driftloop_rollout.machine import Rollout
from driftloop_rollout.verdict import Word
from driftloop_settings import RolloutSettings
from driftloop_settings.change_windows import next_open, open_at

Move = Literal["canary", "advance", "promote"]
GRACE = timedelta(minutes=1)
"""How long after their age labels are waited for if the arms cannot be compared."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """why: the sentence for people. awaits: what a person has to approve, if that is the reason."""

    why: str
    awaits: str = ""


def refusal(
    rollout: Rollout, rules: RolloutSettings, move: Move, word: Word, now: datetime
) -> Refusal | None:
    """Return why the candidate may not get more traffic yet; None if it may. word: the verdict."""
    if move == "promote" and rules.promote == "when_better" and word != "better":
        return Refusal(f"{word}, and `rollout.promote` is when_better: better is not shown yet")
    if move in rules.approve and move not in rollout.approved:
        ready = {"canary": "replicas hold the candidate", "promote": "the promotion is proven"}
        return Refusal(f"{ready[move]}: a person has to approve the {NAMES[move]}", move)
    if not open_at(rules.change_windows, rules.timezone, now):
        opens = next_open(rules.change_windows, rules.timezone, now)
        return Refusal(f"waits for its change window, which opens at {opens:%Y-%m-%d %H:%M %Z}")
    return None


NAMES = {"canary": "canary", "promote": "promotion"}


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a candidate cost so far. rows: that it answered. loss: its judged rows times the loss
    that they were worse by, and the margin for each row that has no label yet."""

    rows: int
    loss: float

    @classmethod
    def of(cls, seen: RolloutEvidence) -> "Exposure":
        decisive = seen.trial.metrics[0]
        judged = max(decisive.difference or 0.0, 0.0) * decisive.canary_count
        waiting = seen.answered - seen.coverage.canary if seen.quality_is_judged else 0
        return cls(seen.answered, judged + max(waiting, 0) * decisive.rule.margin)

    def over(self, rules: RolloutSettings) -> str:
        """Return which limit was reached, or an empty text."""
        if rules.max_exposure_rows is not None and self.rows >= rules.max_exposure_rows:
            return f"it answered {self.rows:,} rows, of {rules.max_exposure_rows:,} that it may"
        if rules.max_exposure_loss is not None and self.loss >= rules.max_exposure_loss:
            return f"it may have cost {self.loss:.3g}, of {rules.max_exposure_loss:g} that it may"
        return ""


def matured(seen: RolloutEvidence, since: datetime, age_s: float | None, now: datetime) -> bool:
    """Whether the rows before `since` are judged, or never will be. age_s: by which labels come;
    None: unknown."""
    judged = seen.labels_until >= since or not seen.quality_is_judged
    if age_s is None:
        return judged and seen.requests_until >= since
    old = now - since - timedelta(seconds=age_s)
    return old >= (timedelta(0) if judged else GRACE)
