"""How long labels take: learned from the champion's rows, of which many wait for theirs still.

Rows are censored on the right: a row that is an hour old says nothing about labels that take a day.
The share of rows with a label at an age is estimated from all rows that were as old (the estimator
of Kaplan and Meier, "Nonparametric estimation from incomplete observations", 1958), for each class
of rows separately by the cumulative incidence of Aalen and Johansen ("An empirical transition
matrix", 1978): a label of one class ends the wait for one of another. So the labels of a class that
come late are waited for, though most labels are of another. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from driftloop_rollout.units import Floats, Ints

LEAST_ROWS = 50
"""The age up to which the curve is known is one that this many rows have reached."""
LEAST_LABELS = 20
"""The delay of a class with fewer labels is not known."""
SETTLED = 0.5
"""Nearly all labels must have come by this share of the age that is known, or more may come."""

LEARN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class LabelDelay:
    """age_s: by which nearly all labels that ever come have come; None: not known yet. share: of
    the rows that have a label at the age `known_s`, up to which the curve is known. rows: from
    which it was learned."""

    age_s: float | None = None
    share: float = 0.0
    known_s: float = 0.0
    rows: int = 0
    learned_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "learned_at": self.learned_at and self.learned_at.isoformat()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "LabelDelay":
        at = value.get("learned_at")
        return cls(**{**value, "learned_at": at and datetime.fromisoformat(at)})


def learn_delay(
    delays_s: Floats,
    ages_s: Floats,
    nearly_all: float,
    now: datetime,
    classes: Sequence[Ints] = (),
) -> LabelDelay:
    """Learn from n rows. delays_s: from the prediction to its label, NaN if there is none yet.
    ages_s: how long ago the prediction was, for labels that would be known. nearly_all: the share
    of the labels that ever come. classes: ways to divide the rows, each a number per row (of its
    label, of its loss); those without a label are in no class."""
    n = len(ages_s)
    if n < LEAST_ROWS:
        return LabelDelay(rows=n, learned_at=now)
    known_s = float(np.sort(ages_s)[-LEAST_ROWS])
    found = [arrival(delays_s, ages_s, known_s, np.zeros(n, np.int64), 0)]
    for each in classes:
        labelled = each[~np.isnan(delays_s)]
        values, counts = np.unique(labelled, return_counts=True)
        for value in values[counts >= LEAST_LABELS]:
            found.append(arrival(delays_s, ages_s, known_s, each, int(value)))
    share = float(found[0][1][-1]) if len(found[0][1]) else 0.0
    needed = [_reached(*curve, nearly_all) for curve in found if len(curve[0])]
    age_s = max(needed, default=None)
    if age_s is not None and age_s > SETTLED * known_s:
        age_s = None
    return LabelDelay(age_s, share, known_s, n, now)


def arrival(
    delays_s: Floats, ages_s: Floats, known_s: float, classes: Ints, value: int
) -> tuple[Floats, Floats]:
    """Return the ages [m], ascending, at which labels of the class `value` came, and the shares [m]
    of all rows that have one by then."""
    came = ~np.isnan(delays_s) & (delays_s <= np.minimum(ages_s, known_s))
    left = np.where(came, delays_s, np.minimum(ages_s, known_s))
    order = np.lexsort((~came, left))  # at one age, labels come before rows leave
    came, left, mine = came[order], left[order], classes[order] == value
    waiting = len(left) - np.arange(len(left))
    still = np.cumprod(1.0 - came / waiting)
    before = np.append(1.0, still[:-1])
    steps = came & mine
    return left[steps], np.cumsum((before / waiting)[steps])


def _reached(ages_s: Floats, shares: Floats, nearly_all: float) -> float:
    return float(ages_s[np.searchsorted(shares, nearly_all * shares[-1] * (1 - 1e-12))])


def due(found: LabelDelay | None, now: datetime) -> bool:
    """Whether it is time to learn (again)."""
    return found is None or found.learned_at is None or now - found.learned_at >= LEARN_EVERY


def mature_until(found: LabelDelay | None, said_s: float | None, now: datetime) -> datetime | None:
    """Return the time before which rows have their label if they ever get one; None: not known.
    said_s: the setting; with 0 only the share of labels decides."""
    age_s = said_s if said_s is not None else found and found.age_s
    return now - timedelta(seconds=age_s) if age_s else None
