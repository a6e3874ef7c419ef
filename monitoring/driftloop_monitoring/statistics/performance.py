"""Has the error of the served version risen? A sequential test on the losses of labelled rows.

An e-detector of the Shiryaev–Roberts kind (Shin, Ramdas, Rinaldo, "E-detectors", 2022). For losses
in [0, 1] and a bet b the factor f = 1 + b·(loss − m0) has a mean of at most 1 as long as the mean
loss, given the past, is at most m0; R ← (R + 1)·f then grows by at most 1 a row on average. So does
the mean of several R, and the first row where it reaches A comes after A rows or more on average
(the average run length), for any distribution and however often it is evaluated.

Assumption: before a change the mean loss of the next row, given the past, is at most m0. m0 is the
error on the reference plus 2.5 standard errors of it, because the reference is itself a sample.
"""

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RISES = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Rises of the mean loss that the bets are best at, in units of the margin."""
UPPER_Z = 2.5
LARGEST_BET = 0.9
"""Of 1/m0, above which a loss of 0 could bankrupt a bet."""


@dataclass(frozen=True, slots=True)
class LossBaseline:
    """The loss on rows the model was not trained on: mean, variance, rows."""

    mean: float
    variance: float
    rows: int

    @property
    def ceiling(self) -> float:
        """m0: the highest mean loss that is not called a rise."""
        variance = max(self.variance, 1.0 / self.rows / self.rows)
        return min(self.mean + UPPER_Z * math.sqrt(variance / self.rows), 1.0)

    @classmethod
    def of(cls, losses: Floats) -> "LossBaseline":
        """Raises ValueError without a loss."""
        if not losses.size:
            raise ValueError("a baseline needs losses")
        return cls(float(losses.mean()), float(losses.var()), int(losses.size))


@dataclass(frozen=True, slots=True)
class Rule:
    """margin: a rise worth an alert; run_length: rows between false alerts, at least, on
    average."""

    margin: float
    run_length: float

    def bets(self, baseline: LossBaseline) -> Floats:
        """Near the growth-optimal bet rise/(variance + rise²) for each of RISES."""
        rises = self.margin * np.array(RISES)
        variance = max(baseline.variance, baseline.ceiling * 0.01)
        return np.minimum(rises / (variance + rises**2), LARGEST_BET / baseline.ceiling)


@dataclass(frozen=True, slots=True)
class Change:
    """Since where the losses speak for a rise. row: how many judged rows came before."""

    row: int
    at: datetime
    rows: int
    mean_loss: float


@dataclass(frozen=True, slots=True)
class Bet:
    """One bet: log of its R; and of its largest summand, which row that starts at and what it
    saw."""

    log_r: float = -np.inf
    log_peak: float = 0.0
    start: int = 0
    start_at: str | None = None
    rows: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """After `rows` judged rows with a summed loss. `alert` is the change as the alert saw it; it
    then keeps counting rows and losses, and the test is not asked again."""

    bets: tuple[Bet, ...] = tuple(Bet() for _ in RISES)
    rows: int = 0
    loss: float = 0.0
    alert: Change | None = None
    log_e: float = -np.inf

    @property
    def mean_loss(self) -> float | None:
        return self.loss / self.rows if self.rows else None

    @property
    def change(self) -> Change | None:
        """The likeliest change so far (of the strongest bet), alert or not."""
        if self.alert is not None:
            return self.alert
        best = max(self.bets, key=lambda b: b.log_r)
        if best.start_at is None or not best.rows:
            return None
        at = datetime.fromisoformat(best.start_at)
        return Change(best.start, at, best.rows, best.loss / best.rows)

    def to_dict(self) -> dict[str, Any]:
        value = asdict(self)
        for bet in value["bets"]:
            bet["log_r"] = _finite(bet["log_r"])
        value["log_e"] = _finite(self.log_e)
        if self.alert is not None:
            value["alert"]["at"] = self.alert.at.isoformat()
        return value

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "State":
        alert = value["alert"]
        return cls(
            tuple(Bet(**{**b, "log_r": _or_minus_inf(b["log_r"])}) for b in value["bets"]),
            value["rows"],
            value["loss"],
            Change(**{**alert, "at": datetime.fromisoformat(alert["at"])}) if alert else None,
            _or_minus_inf(value["log_e"]),
        )


def _finite(value: float) -> float | None:
    return None if np.isinf(value) else float(value)


def _or_minus_inf(value: float | None) -> float:
    return -np.inf if value is None else value


def update(
    state: State, losses: Floats, times: list[datetime], baseline: LossBaseline, rule: Rule
) -> State:
    """Judge rows, in the order of their predictions: `losses` in [0, 1], `times` of the same
    length.

    An alert needs significance (the average run length) and effect (the mean loss since the change
    is half a margin or more above the baseline). Raises ValueError for a loss outside [0, 1].
    """
    if not losses.size:
        return state
    if not (losses.min() >= 0.0 and losses.max() <= 1.0):  # false for NaN too
        raise ValueError("losses must lie between 0 and 1")
    rows, loss = state.rows + len(losses), state.loss + float(losses.sum())
    if state.alert is not None:
        a = state.alert
        seen = a.rows + len(losses)
        mean = (a.mean_loss * a.rows + float(losses.sum())) / seen
        return State(state.bets, rows, loss, Change(a.row, a.at, seen, mean), state.log_e)
    factors = np.log1p(rule.bets(baseline) * (losses[:, None] - baseline.ceiling))
    log_r, log_e = _wealth(state, factors)
    effect = baseline.mean + rule.margin / 2
    for hit in np.flatnonzero(log_e >= np.log(rule.run_length)):
        end = int(hit) + 1
        at_hit = State(
            _advance(state, factors[:end], log_r[:end], losses[:end], times),
            state.rows + end,
            state.loss + float(losses[:end].sum()),
            log_e=float(log_e[hit]),
        )
        change = at_hit.change
        if change is not None and change.mean_loss >= effect:
            alerted = State(at_hit.bets, at_hit.rows, at_hit.loss, change, at_hit.log_e)
            return update(alerted, losses[end:], times[end:], baseline, rule)
    return State(_advance(state, factors, log_r, losses, times), rows, loss, log_e=float(log_e[-1]))


def _wealth(state: State, factors: Floats) -> tuple[Floats, Floats]:
    """log R of each bet after each row [rows, bets], and the log of their mean [rows]."""
    total = np.cumsum(factors, axis=0)
    before = np.vstack([np.zeros(factors.shape[1]), total[:-1]])
    start = np.array([b.log_r for b in state.bets])
    grown = np.logaddexp.accumulate(np.vstack([start, -before]), axis=0)[1:]
    log_r: Floats = total + grown
    top = log_r.max(axis=1)
    log_e: Floats = top + np.log(np.exp(log_r - top[:, None]).mean(axis=1))
    return log_r, log_e


def _advance(
    state: State, factors: Floats, log_r: Floats, losses: Floats, times: list[datetime]
) -> tuple[Bet, ...]:
    total = np.cumsum(factors, axis=0)
    tails = np.concatenate([np.cumsum(losses[::-1])[::-1], [0.0]])
    bets = []
    for k, bet in enumerate(state.bets):
        # A summand starts anew where the sum of log factors before it is lowest.
        before = np.concatenate([[0.0], total[:-1, k]])
        lowest = int(before.argmin())
        old = bet.start_at is not None and -bet.log_peak <= before[lowest]
        peak = float(total[-1, k] + (bet.log_peak if old else -before[lowest]))
        start, start_at, rows, loss = (
            (bet.start, bet.start_at, bet.rows + len(losses), bet.loss + float(losses.sum()))
            if old
            else (
                state.rows + lowest,
                times[lowest].isoformat(),
                len(losses) - lowest,
                float(tails[lowest]),
            )
        )
        bets.append(Bet(float(log_r[-1, k]), peak, start, start_at, rows, loss))
    return tuple(bets)
