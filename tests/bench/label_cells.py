"""Traffic of the verdict's benchmark whose labels come late, in part, or sooner for errors: through
the product's own curve of delays and its own choice of rows, without a routing key."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from driftloop_contracts.model import ModelSpec
from driftloop_rollout.arm_rows import ArmRows, us_of
from driftloop_rollout.evidence import RolloutEvidence, extend, start
from driftloop_rollout.label_delay import learn_delay
from driftloop_rollout.margins import Margins
from driftloop_rollout.units import NO_KEY, Floats

RUNGS = (0.05, 0.25, 0.5)
START = datetime(2026, 11, 29, tzinfo=UTC)
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


@dataclass
class Stream:
    """Rows of the traffic so far; labels are seen by their delay."""

    cell: LabelCell
    effect: float
    rng: np.random.Generator
    rows: ArmRows
    wrong: Floats
    came: Floats

    @classmethod
    def past(cls, cell: LabelCell, effect: float, seed: int) -> "Stream":
        rng, none = np.random.default_rng(seed), np.zeros(0)
        rows = ArmRows(
            *(none.astype(t) for t in ("i8", "?", "?", "f8", "?", "?", "f8", "f8", "i8"))
        )
        stream = cls(cell, effect, rng, rows, none, none)
        for number in range(PAST_DAYS * 8, 0, -1):
            stream.live(START - number * LOOK, 0.0)
        return stream

    def live(self, begins: datetime, weight: float) -> None:
        n, rng = LOOK_ROWS, self.rng
        canary = rng.random(n) < weight
        at = us_of(begins) + np.sort(rng.integers(0, LOOK // timedelta(microseconds=1), n))
        every, none = np.ones(n, bool), np.full(n, np.nan)
        new = ArmRows(
            at, canary, every, np.full(n, 0.01), ~every, every, none, none, np.full(n, NO_KEY)
        )
        names = ("at", "canary", "first", "latency_s", "failed", "labelled", "loss", "malformed")
        joined = {k: np.append(getattr(self.rows, k), getattr(new, k)) for k in (*names, "key")}
        self.rows = ArmRows(**joined)
        wrong = (rng.random(n) < BASE + canary * self.effect).astype(np.float64)
        self.wrong = np.append(self.wrong, wrong)
        self.came = np.append(self.came, at / 1e6 + self.cell.delay(rng, wrong))

    def seen(self, now: datetime, since: datetime) -> ArmRows:
        first = int(np.searchsorted(self.rows.at, us_of(since)))
        rows = self.rows.where(np.arange(len(self.rows.at)) >= first)
        labelled = self.came[first:] <= us_of(now) / 1e6
        return replace(rows, labelled=labelled, loss=np.where(labelled, self.wrong[first:], np.nan))

    def learned(self, now: datetime, seen: RolloutEvidence) -> RolloutEvidence:
        """With the delays of 4,000 of the champion's rows."""
        stable = np.flatnonzero(~self.rows.canary)
        some = np.sort(self.rng.choice(stable, min(4_000, len(stable)), replace=False))
        at, end = self.rows.at[some] / 1e6, us_of(now) / 1e6
        delays = np.where(self.came[some] <= end, self.came[some] - at, np.nan)
        classes = [self.wrong[some].astype(np.int64)]
        return replace(seen, labels=learn_delay(delays, end - at, 0.98, now, classes))


def walk_labels(cell: LabelCell, harm: bool, seed: int) -> tuple[str, int, int]:
    """The ladder until a verdict or DAYS: what was done, and after how many rows in all and of the
    canary."""
    stream = Stream.past(cell, HARM if harm else 0.0, seed)
    begun = start(SPEC, MARGINS, RUNGS, stream.seen(START, START - 5 * LOOK), None, START)
    assert begun is not None
    seen, rung, stepped, canary = begun, 0, START, 0
    for number in range(DAYS * 8):
        begins, now = START + number * LOOK, START + (number + 1) * LOOK
        seen = seen.with_step(str(seed), RUNGS[rung], 60.0, stepped, True, stepped)
        stream.live(begins, RUNGS[rung])
        canary += int(stream.rows.canary[-LOOK_ROWS:].sum())
        if number % 4 == 0:
            seen = stream.learned(now, seen)
        recent = stream.seen(now, seen.requests_until)
        seen = extend(seen, recent, stream.seen(now, seen.labels_until), MARGINS, now)
        verdict = seen.trial.judge(rung, len(RUNGS))
        if verdict.action in ("promote", "roll_back"):
            return verdict.action, (number + 1) * LOOK_ROWS, canary
        if verdict.action == "advance":
            rung, stepped = rung + 1, now
    return "hold", DAYS * 8 * LOOK_ROWS, canary
