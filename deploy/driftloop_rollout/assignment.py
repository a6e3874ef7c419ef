"""Reconstructs which arm the split drew for the rows of a rollout, from its salt and the rows'
times.

Each step of a rollout has its own split, whose epochs begin with the step: a key is drawn anew at
each step and each epoch. A key counts with all its rows of an epoch, regardless of which arm
answered them (a replica may have switched seconds late): the draw is independent of everything
else, the answering arm is not. An epoch with keys can therefore only be used once it is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.model import TrafficSplit
from driftloop_rollout.arm_rows import ArmRows, time_of, us_of
from driftloop_rollout.units import NO_KEY, Floats, Ints, KeyHistory, Units

CUT_OFF = timedelta(days=1)
"""A key that never changes its arm counts once, with its rows up to this time."""
SILENT = 1e-6
"""An arm without rows counts as silent if draws would leave it empty with a smaller probability."""


@dataclass(frozen=True, slots=True)
class SplitSpan:
    """The split of one step.

    since: the start of its first epoch. started: since when all replicas have it, None: not yet.
    ended: when the next step began, None: not yet. sticky_s: None: a key only changes its arm when
    the weight rises; `before` is then the previous step's weight. held_back: the former champion
    is the one that is drawn, with the probability 1 - weight, after a promotion.
    """

    salt: str
    weight: float
    since: datetime
    sticky_s: float | None
    before: float = 0.0
    started: datetime | None = None
    ended: datetime | None = None
    held_back: bool = False

    @property
    def split(self) -> TrafficSplit:
        """The split between stable version 0 and canary 1."""
        since = self.since.timestamp()
        if self.held_back:
            return TrafficSplit(1, 0, 1.0 - self.weight, self.salt, since, self.sticky_s)
        return TrafficSplit(0, 1, self.weight, self.salt, since, self.sticky_s)

    @property
    def epoch(self) -> timedelta:
        return CUT_OFF if self.sticky_s is None else timedelta(seconds=self.sticky_s)

    @property
    def key_share(self) -> float:
        """The probability that a key that can be drawn is drawn for the canary."""
        if self.sticky_s is not None:
            return self.weight
        return (self.weight - self.before) / (1.0 - self.before)

    def draws(self, keys: Ints, epochs: Ints) -> NDArray[np.int8]:
        """Return the draws of keys (hashes) in epochs [n]: 1 for the canary, 0 for the stable arm,
        -1 if this split did not draw the key, because it already belonged to the canary."""
        found = np.array(self.split.versions_of(keys.tolist(), epochs.tolist()), np.int8)
        # A key that never changes its arm was drawn by the steps before a promotion.
        if self.sticky_s is None and self.held_back:
            found[:] = -1
        elif self.sticky_s is None and self.before:
            former = TrafficSplit(0, 1, self.before, self.salt)
            known = former.versions_of(keys.tolist(), [0] * len(keys))
            found[np.array(known, bool)] = -1
        return found

    def to_dict(self) -> dict[str, Any]:
        value = asdict(self)
        return {**value, **{n: value[n] and value[n].isoformat() for n in _TIMES}}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "SplitSpan":
        times = {n: value[n] and datetime.fromisoformat(value[n]) for n in _TIMES}
        return cls(**{**value, **times})


_TIMES = ("since", "started", "ended")


@dataclass(frozen=True, slots=True)
class DrawnRows:
    """Rows with their draws, as arrays [n].

    draw: a number for each step and epoch, -1 for rows that do not count. closes: the end of the
    row's epoch (µs since 1970). canary, share: as in `Units`.
    """

    rows: ArmRows
    draw: Ints
    closes: Ints
    canary: NDArray[np.bool_]
    share: Floats

    @property
    def counts(self) -> NDArray[np.bool_]:
        counts: NDArray[np.bool_] = self.draw >= 0
        return counts

    @property
    def keyed(self) -> NDArray[np.bool_]:
        keyed: NDArray[np.bool_] = (self.draw >= 0) & (self.rows.key != NO_KEY)
        return keyed

    def usable_until(self, over_by: datetime) -> NDArray[np.bool_]:
        """Return after which rows [n] a used part may end: not within a request, nor within an
        epoch in which a keyed row was seen, unless that is over by `over_by`."""
        at, n = self.rows.at, len(self.draw)
        if not n:
            return np.zeros(0, bool)
        # for rows that do not count: the last one that does
        draw = np.maximum.accumulate(self.draw)
        begins = np.append(True, draw[1:] != draw[:-1])
        keyed: Ints = np.cumsum(self.keyed)
        first = np.maximum.accumulate(np.where(begins, np.arange(n), 0))
        held = keyed > (keyed - self.keyed)[first]
        over = np.append(begins[1:], self.closes.max() <= us_of(over_by))
        found: NDArray[np.bool_] = np.append(at[1:] != at[:-1], True) & (~held | over)
        return found

    def part(self, until: datetime) -> "DrawnRows":
        """Return the rows before the given time."""
        n = slice(int(np.searchsorted(self.rows.at, us_of(until))))
        return DrawnRows(
            self.rows.where(n), self.draw[n], self.closes[n], self.canary[n], self.share[n]
        )

    @property
    def has_silent_arm(self) -> bool:
        """Whether an arm answered nothing although it was almost surely drawn, so that there is
        nothing to compare."""
        if not self.counts.any():
            return False
        arms, answered = self.rows.canary[self.counts], (True, False)
        if all((arms == arm).any() for arm in answered):
            return False
        units = self.units(np.zeros(len(self.draw)), KeyHistory.of(*_NOTHING), 0.5, 0.0)
        chance = np.log1p(-units.share) if not arms.any() else np.log(units.share)
        return bool(chance.sum() < np.log(SILENT))

    def units(self, values: Floats, history: KeyHistory, q: float, alone: float) -> Units:
        """Return the units. values: a loss for each row, NaN if it is not judged. q: the champion's
        mean loss so far. alone: the variance between the means of requests without a key."""
        known = np.flatnonzero(self.counts & ~np.isnan(values))
        if not len(known):
            return Units.of_rows(np.zeros(0), np.zeros(0), 0.5, q)
        keyed, request = self.keyed[known], np.cumsum(self.rows.first)[known]
        draw = np.where(keyed, self.draw[known], -1)
        what = np.where(keyed, self.rows.key[known], request)
        if keyed.any():  # rows of requests without a key are in order
            order = np.lexsort((what, draw))
            draw, what, known = draw[order], what[order], known[order]
        begins = np.append(True, (draw[1:] != draw[:-1]) | (what[1:] != what[:-1])).nonzero()[0]
        place = known[begins]
        keys = np.where(self.keyed[place], self.rows.key[place], NO_KEY)
        expected, spread = history.expect(keys, q)
        return Units(
            self.canary[place],
            self.share[place],
            np.diff(np.append(begins, len(known))).astype(np.float64),
            np.add.reduceat(values[known], begins),
            np.where(keys == NO_KEY, q, expected),
            np.where(keys == NO_KEY, alone, spread),
        )


_NOTHING = (np.zeros(0, np.int64), np.zeros(0))
NO_HISTORY = KeyHistory.of(*_NOTHING)


def drawn(rows: ArmRows, spans: Sequence[SplitSpan]) -> DrawnRows:
    """Attach draws to rows sorted by time; rows outside all spans do not count."""
    n = len(rows.at)
    draw, closes = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    canary, share = rows.canary.copy(), np.zeros(n)
    for number, span in enumerate(spans):
        if span.started is None:
            continue
        inside = rows.at >= us_of(span.started)
        if span.ended is not None:
            inside &= rows.at < us_of(span.ended)
        since, length = us_of(span.since), span.epoch // timedelta(microseconds=1)
        epochs = np.maximum(rows.at - since, 0) // length
        has_key = rows.key != NO_KEY
        if span.sticky_s is None:
            inside &= ~has_key | (epochs == 0)
        places = np.flatnonzero(inside & has_key)
        found = _draws(span, rows.key[places], epochs[places])
        canary[places] = found == 1
        inside[places[found < 0]] = False
        draw[inside] = (number << 40) + epochs[inside]
        ends = since + (epochs[inside] + 1) * length
        closes[inside] = ends if span.ended is None else np.minimum(ends, us_of(span.ended))
        share[inside] = np.where(has_key[inside], span.key_share, span.weight)
    return DrawnRows(rows, draw, closes, canary, share)


def _draws(span: SplitSpan, keys: Ints, epochs: Ints) -> NDArray[np.int8]:
    """As `SplitSpan.draws`; equal ones are only computed once."""
    found = np.empty(len(keys), np.int8)
    if not len(keys):
        return found
    order = np.lexsort((keys, epochs))
    key, epoch = keys[order], epochs[order]
    begins = np.append(True, (key[1:] != key[:-1]) | (epoch[1:] != epoch[:-1]))
    found[order] = span.draws(key[begins], epoch[begins])[np.cumsum(begins) - 1]
    return found


def usable(rows: DrawnRows, since: datetime, until: datetime, over_by: datetime) -> datetime:
    """Return up to which time rows from `since` to `until` may be used: `until`, or the start of
    the first keyed epoch that is not over by `over_by`."""
    if not len(rows.draw):
        return until
    ends = np.flatnonzero(rows.usable_until(over_by))
    if not len(ends):
        return since
    last = int(ends[-1])
    return until if last == len(rows.draw) - 1 else time_of(int(rows.rows.at[last]) + 1)
