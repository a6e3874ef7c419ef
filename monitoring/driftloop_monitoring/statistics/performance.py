"""Has the error of the served version risen? A sequential test on the losses of labelled rows.

An e-detector of the Shiryaev–Roberts kind (Shin, Ramdas, Rinaldo, "E-detectors", 2022). For losses
in [0, 1] and a bet b the factor f = 1 + b·(loss − m0) has a mean of at most 1 as long as the mean
loss, given the past, is at most m0; R ← (R + 1)·f then grows by at most 1 a row on average. So does
the mean of several R, and the first row where it reaches A comes after A rows or more on average
(the average run length), for any distribution and however often it is evaluated.

Real traffic has a rhythm, and its rows resemble each other (see `calm`). So m0 is the error on the
reference, plus 2 standard errors because the reference is itself a sample, plus what is usual for
the hour and the weekday; and the log of each factor is divided by the dispersion: rows in bursts
count as the fewer independent rows that they are worth. For independent rows the bound stays exact.

Assumption: before a change, blocks of rows vary about their usual mean as they did in the past.
Until a whole day (week) was seen, a rhythm looks like a rise: an alert then needs a larger one.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_monitoring.statistics.calm import BLOCK, DAY, WEEK, Calm, Lesson

Floats = NDArray[np.float64]

RISES = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Rises of the mean loss that the bets are best at, in units of the margin."""
UPPER_Z = 2.0
LARGEST_BET = 0.9
"""Of 1/m0, above which a loss of 0 could bankrupt a bet."""
UNSEEN_DAY, UNSEEN_WEEK = 3.0, 2.0
"""Rises that may be a rhythm of the day and one of the week as long as it was not seen: in margins,
and at most in points."""
PRIOR_DAYS = 3.0
"""Days that UNSEEN_WEEK is worth as an opinion on how much days differ, which is twice the standard
deviation between them."""
LEAST_MEAN = 1e-4
"""Of m0, and of a row's variance: where no error was seen, the rhythm must not make it negative."""
AT_ONCE = 5_000
"""Rows that are judged at a time, at most."""
MONTH_DAYS = 30.44
FIRST_RUN, SHORTEST_RUN = 1e5, 1e3
"""Average run lengths in rows: before the rate of rows is known, and the least."""


@dataclass(frozen=True, slots=True)
class LossBaseline:
    """The loss on rows that the model was not trained on: mean, variance, number of rows."""

    mean: float
    variance: float
    rows: int

    def ceiling(self, dispersion: float = 1.0) -> float:
        """m0 before the rhythm: the highest mean loss that is not called a rise."""
        variance = max(self.variance, 1.0 / self.rows / self.rows)
        return min(self.mean + UPPER_Z * math.sqrt(variance * dispersion / self.rows), 1.0)

    @classmethod
    def of(cls, losses: Floats) -> "LossBaseline":
        """Compute the baseline. Raises ValueError without losses."""
        if not losses.size:
            raise ValueError("a baseline needs losses")
        return cls(float(losses.mean()), float(losses.var()), int(losses.size))


@dataclass(frozen=True, slots=True)
class Rule:
    """margin: a rise worth an alert; false_per_month: false alerts of this model in a month, at
    most, on average; run_length: the rows between two false alerts instead, whatever time they
    take; rhythm: the error may have one, False: it is known to have none;
    independent: the rows were drawn at random."""

    margin: float
    run_length: float | None = None
    false_per_month: float = 1.0
    rhythm: bool = True
    independent: bool = False

    def among(self, models: int) -> "Rule":
        """This model's share of what `false_per_month` promises for all `models`."""
        return replace(self, false_per_month=self.false_per_month / max(models, 1))

    def of_tests(self, tests: int) -> "Rule":
        """The share of one of several tests of a model in what is promised for the model."""
        length = self.run_length and self.run_length * tests
        return replace(self.among(tests), run_length=length)

    def bets(self, variance: float, m0: Floats) -> Floats:
        """Near the growth-optimal bet rise/(variance + rise²) for each of RISES [k] and rows
        [k, n]. variance: of a row's loss; m0 [n]: of the rows."""
        rises = self.margin * np.array(RISES)[:, None]
        return np.minimum(rises / (np.maximum(variance, m0 * 0.01) + rises**2), LARGEST_BET / m0)

    def level(self, lesson: Lesson) -> float:
        """The log of the average run length in rows."""
        if self.run_length is not None:
            return math.log(self.run_length)
        if lesson.rows_per_day is None:
            return math.log(FIRST_RUN)
        return math.log(max(lesson.rows_per_day * MONTH_DAYS / self.false_per_month, SHORTEST_RUN))

    def applied(self, lesson: Lesson) -> Lesson:
        """Return the lesson without what is known not to be there."""
        if not self.rhythm:
            flat = Lesson()
            lesson = replace(lesson, hours=flat.hours, weekdays=flat.weekdays, week=flat.week)
        return replace(lesson, dispersion=1.0) if self.independent else lesson

    def unexplained(self, lesson: Lesson) -> float:
        """A rise of the mean loss that may be a rhythm which was not seen yet.

        Of the first day, a wave of the day and one of the week. Then two standard deviations of the
        next day about the mean of those seen, if how they differed is all that is known of the
        week (and an opinion, see PRIOR_DAYS); a rise that stays may not hide in it.
        """
        if not self.rhythm or lesson.seen >= WEEK:
            return 0.0
        size = min(self.margin, 0.01)
        most = (UNSEEN_DAY + UNSEEN_WEEK) * size
        if lesson.seen < DAY:
            return most
        days = lesson.seen / DAY
        opinion = PRIOR_DAYS * (UNSEEN_WEEK * size / 2) ** 2
        between = (opinion + (days - 1) * lesson.days_apart) / (PRIOR_DAYS + days - 1)
        return min(2 * math.sqrt(between * (1 + 1 / days)), most)


@dataclass(frozen=True, slots=True)
class Change:
    """Since where the losses speak for a rise. row: how many judged rows came before; mean_loss:
    less what is usual at that time of the day and the week."""

    row: int
    at: datetime
    rows: int
    mean_loss: float


@dataclass(frozen=True, slots=True)
class Bet:
    """The state of one bet: log R; and for its largest summand, the row at which it starts and the
    losses since."""

    log_r: float = -np.inf
    log_peak: float = 0.0
    start: int = 0
    start_at: str | None = None
    rows: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """The state after `rows` judged rows with the summed loss. `alert`: the change at the time of
    the alert, which then only counts further rows and losses without testing."""

    bets: tuple[Bet, ...] = tuple(Bet() for _ in RISES)
    rows: int = 0
    loss: float = 0.0
    alert: Change | None = None
    log_e: float = -np.inf
    calm: Calm = field(default_factory=Calm)

    @property
    def mean_loss(self) -> float | None:
        return self.loss / self.rows if self.rows else None

    @property
    def change(self) -> Change | None:
        """The most likely change so far (from the strongest bet), whether or not it raised an
        alert."""
        if self.alert is not None:
            return self.alert
        best = max(self.bets, key=lambda b: b.log_r)
        if best.start_at is None or not best.rows:
            return None
        at = datetime.fromisoformat(best.start_at)
        return Change(best.start, at, best.rows, best.loss / best.rows)

    def to_dict(self) -> dict[str, Any]:
        alert = self.alert
        return {
            "bets": [asdict(bet) | {"log_r": _finite(bet.log_r)} for bet in self.bets],
            "rows": self.rows,
            "loss": self.loss,
            "alert": alert and asdict(alert) | {"at": alert.at.isoformat()},
            "log_e": _finite(self.log_e),
            "calm": self.calm.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "State":
        alert = value["alert"]
        return cls(
            tuple(Bet(**{**b, "log_r": _or_minus_inf(b["log_r"])}) for b in value["bets"]),
            value["rows"],
            value["loss"],
            Change(**{**alert, "at": datetime.fromisoformat(alert["at"])}) if alert else None,
            _or_minus_inf(value["log_e"]),
            Calm.from_dict(value["calm"]) if "calm" in value else Calm(),
        )


def _finite(value: float) -> float | None:
    return None if np.isinf(value) else float(value)


def _or_minus_inf(value: float | None) -> float:
    return -np.inf if value is None else value


def update(
    state: State, losses: Floats, seconds: Floats, baseline: LossBaseline, rule: Rule
) -> State:
    """Process rows in the order of their predictions: `losses` in [0, 1], and their times in
    `seconds` since 1970, of the same length.

    An alert needs significance (the average run length) and effect (the mean loss since the change
    is half a margin or more above the baseline and what a rhythm may explain). Raises ValueError
    for a loss outside [0, 1].
    """
    if not losses.size:
        return state
    if not (losses.min() >= 0.0 and losses.max() <= 1.0):  # also false for NaN
        raise ValueError("losses must lie between 0 and 1")
    done = 0
    while done < len(losses):
        lesson = rule.applied(state.calm.lesson)
        if state.alert is not None:
            return _after_alert(state, state.alert, losses[done:], lesson.usual(seconds[done:]))
        most = BLOCK if state.log_e >= rule.level(lesson) else AT_ONCE
        part = slice(done, done + state.calm.portion(seconds[done : done + most]))
        state, used = _judge(state, losses[part], seconds[part], baseline, rule, lesson)
        done += used
    return state


def _judge(
    state: State,
    losses: Floats,
    seconds: Floats,
    baseline: LossBaseline,
    rule: Rule,
    lesson: Lesson,
) -> tuple[State, int]:
    """After rows that one lesson is for, or those up to an alert; and how many rows those are."""
    usual = lesson.usual(seconds)
    unexplained = rule.unexplained(lesson)
    m0 = np.clip(baseline.ceiling(lesson.dispersion) + unexplained + usual, LEAST_MEAN, 1.0)
    factors = np.log1p(rule.bets(baseline.variance, m0) * (losses - m0))
    total = np.cumsum(factors / lesson.dispersion, axis=1)
    log_r, log_e = _wealth(state, total)
    over = losses - usual
    effect = baseline.mean + unexplained + rule.margin / 2
    hits = np.flatnonzero(log_e >= rule.level(lesson))
    if len(hits):  # its rows are looked at one by one, so they are few
        losses, seconds = losses[: hits[0] + BLOCK], seconds[: hits[0] + BLOCK]
    ends = [int(hit) + 1 for hit in hits if hit < len(losses)]
    for end in (*ends, len(losses)):
        seen = replace(
            state,
            bets=_advance(state, total[:, :end], log_r[:, end - 1], over[:end], seconds),
            rows=state.rows + end,
            loss=state.loss + float(losses[:end].sum()),
            log_e=float(log_e[end - 1]),
        )
        change = seen.change
        if end in ends and change is not None and change.mean_loss >= effect:
            return replace(seen, alert=change), end
    variance = max(baseline.variance, LEAST_MEAN)
    return replace(seen, calm=state.calm.add(losses, seconds, baseline.mean, variance)), len(losses)


def _after_alert(state: State, alert: Change, losses: Floats, usual: Floats) -> State:
    """The test is not asked again; rows and losses go on being counted."""
    over = losses - usual
    rows = alert.rows + len(losses)
    mean = (alert.mean_loss * alert.rows + float(over.sum())) / rows
    return replace(
        state,
        rows=state.rows + len(losses),
        loss=state.loss + float(losses.sum()),
        alert=replace(alert, rows=rows, mean_loss=mean),
    )


def _wealth(state: State, total: Floats) -> tuple[Floats, Floats]:
    """Return log R of each bet after each row [k, n], and the log of their mean [n]. total [k, n]:
    the log factors, summed up to each row."""
    start = np.array([[b.log_r] for b in state.bets])
    log_r = total + np.logaddexp.accumulate(np.hstack([start, -_before(total)]), axis=1)[:, 1:]
    top = log_r.max(axis=0)
    log_e: Floats = top + np.log(np.exp(log_r - top).mean(axis=0))
    return log_r, log_e


def _before(total: Floats) -> Floats:
    """The sums before each row."""
    return np.hstack([np.zeros((len(total), 1)), total[:, :-1]])


def _advance(
    state: State, total: Floats, log_r: Floats, losses: Floats, seconds: Floats
) -> tuple[Bet, ...]:
    # A summand starts again where the sum of log factors before it is smallest.
    before = _before(total)
    places, lows = before.argmin(axis=1).tolist(), before.min(axis=1).tolist()
    bets = []
    for k, (bet, place, low) in enumerate(zip(state.bets, places, lows, strict=True)):
        old = bet.start_at is not None and -bet.log_peak <= low
        peak = float(total[k, -1] + (bet.log_peak if old else -low))
        start, start_at, rows, loss = (
            (bet.start, bet.start_at, bet.rows + len(losses), bet.loss + float(losses.sum()))
            if old
            else (
                state.rows + place,
                datetime.fromtimestamp(float(seconds[place]), UTC).isoformat(),
                len(losses) - place,
                float(losses[place:].sum()),
            )
        )
        bets.append(Bet(float(log_r[k]), peak, start, start_at, rows, loss))
    return tuple(bets)
