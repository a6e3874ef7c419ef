"""Traffic of the verdict's benchmark whose labels come late, in part, or sooner for errors: through
the product's own curve of delays and its own choice of rows, without a routing key."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from ladder import RUNGS, START, Outcome

from driftloop_contracts.model import ModelSpec
from driftloop_rollout.arm_rows import ArmRows, us_of
from driftloop_rollout.evidence import RolloutEvidence, extend, start
from driftloop_rollout.label_delay import learn_delay
from driftloop_rollout.margins import Margins
from driftloop_rollout.units import NO_KEY, Floats

LOOK, LOOK_ROWS = timedelta(hours=3), 1_000
DAYS, PAST_DAYS = 21, 8
BASE, HARM = 0.1, 0.02
HOUR = 3_600.0
SPEC = ModelSpec("m", "classification", "label")
MARGINS = Margins(0.02, 0.01, 0.1, 0.05, None, 0.98)


@dataclass(frozen=True, slots=True)
class LabelCell:
    """delay: of n labels in seconds, by whether the answer was wrong; inf: it never comes."""

    name: str
    delay: Callable[[np.random.Generator, Floats], Floats]


def _late(rng: np.random.Generator, wrong: Floats) -> Floats:
    return rng.uniform(22 * HOUR, 26 * HOUR, len(wrong))


def _partial(rng: np.random.Generator, wrong: Floats) -> Floats:
    delay = rng.exponential(2 * HOUR, len(wrong))
    return np.where(rng.random(len(wrong)) < 0.4, delay, np.inf)


def _sooner(rng: np.random.Generator, wrong: Floats) -> Floats:
    """Of errors 60 % within hours, of the others 40 % in a day."""
    delay = rng.exponential(np.where(wrong > 0, HOUR, 10 * HOUR))
    return np.where(rng.random(len(wrong)) < np.where(wrong > 0, 0.6, 0.4), delay, np.inf)


LABEL_CELLS = (
    LabelCell("labels a day late", _late),
    LabelCell("labels for 40 % of the rows", _partial),
    LabelCell("labels partial, and sooner for errors", _sooner),
)


class Stream:
    """Rows of the traffic so far; labels are seen by their delay."""

    def __init__(self, cell: LabelCell, effect: float, seed: int) -> None:
        self.cell, self.effect, self.rng = cell, effect, np.random.default_rng(seed)
        n = (PAST_DAYS + DAYS) * 8 * LOOK_ROWS
        self.n, self.at, self.canary = 0, np.zeros(n, np.int64), np.zeros(n, bool)
        self.wrong, self.came = np.zeros(n), np.zeros(n)
        for number in range(PAST_DAYS * 8, 0, -1):
            self.live(START - number * LOOK, 0.0)

    def live(self, begins: datetime, weight: float) -> int:
        """Rows until the next look; return how many of them are the canary's."""
        n, rng = LOOK_ROWS, self.rng
        new = slice(self.n, self.n + n)
        canary = rng.random(n) < weight
        at = us_of(begins) + np.sort(rng.integers(0, LOOK // timedelta(microseconds=1), n))
        wrong = (rng.random(n) < BASE + canary * self.effect).astype(np.float64)
        self.at[new], self.canary[new], self.wrong[new] = at, canary, wrong
        self.came[new] = at / 1e6 + self.cell.delay(rng, wrong)
        self.n += n
        return int(canary.sum())

    def seen(self, now: datetime, since: datetime) -> ArmRows:
        part = slice(int(np.searchsorted(self.at[: self.n], us_of(since))), self.n)
        at, wrong = self.at[part], self.wrong[part]
        every, none = np.ones(len(at), bool), np.full(len(at), np.nan)
        labelled = self.came[part] <= us_of(now) / 1e6
        return ArmRows(
            at,
            self.canary[part],
            every,
            np.full(len(at), 0.01),
            ~every,
            labelled,
            np.where(labelled, wrong, np.nan),
            none,
            np.full(len(at), NO_KEY),
        )

    def learned(self, now: datetime, seen: RolloutEvidence) -> RolloutEvidence:
        """With the delays of 4,000 of the champion's rows."""
        stable = np.flatnonzero(~self.canary[: self.n])
        some = np.sort(self.rng.choice(stable, min(4_000, len(stable)), replace=False))
        at, end = self.at[some] / 1e6, us_of(now) / 1e6
        delays = np.where(self.came[some] <= end, self.came[some] - at, np.nan)
        classes = [self.wrong[some].astype(np.int64)]
        return replace(seen, labels=learn_delay(delays, end - at, 0.98, now, classes))


def walk_labels(cell: LabelCell, harm: bool, seed: int) -> Outcome:
    """The ladder until a verdict or DAYS."""
    stream = Stream(cell, HARM if harm else 0.0, seed)
    begun = start(SPEC, MARGINS, RUNGS, stream.seen(START, START - 5 * LOOK), None, START)
    assert begun is not None
    seen, rung, stepped, canary = begun, 0, START, 0
    for number in range(DAYS * 8):
        begins, now = START + number * LOOK, START + (number + 1) * LOOK
        seen = seen.with_step(str(seed), RUNGS[rung], 60.0, stepped, True, stepped)
        canary += stream.live(begins, RUNGS[rung])
        if number % 4 == 0:
            seen = stream.learned(now, seen)
        recent = stream.seen(now, seen.requests_until)
        seen = extend(seen, recent, stream.seen(now, seen.labels_until), MARGINS, now)
        verdict = seen.trial.judge(rung, len(RUNGS))
        if verdict.action in ("promote", "roll_back"):
            return Outcome(verdict.action, (number + 1) * LOOK_ROWS, canary)
        if verdict.action == "advance":
            rung, stepped = rung + 1, now
    return Outcome("hold", DAYS * 8 * LOOK_ROWS, canary)
