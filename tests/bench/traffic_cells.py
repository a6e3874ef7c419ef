"""Traffic of the verdict's benchmark with errors of 0 and 1: requests without a routing key, and
users with a key whose errors correlate; in bursts, and with a rhythm of the day."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ladder import STICKY_S, Outcome, climb

from driftloop_rollout.arm_rows import ArmRows, us_of
from driftloop_rollout.assignment import NO_HISTORY, DrawnRows, SplitSpan, drawn
from driftloop_rollout.units import NO_KEY, Floats, Ints, KeyHistory, Units
from driftloop_rollout.verdict import Rule, Trial

BASE, EPOCH_ROWS, HISTORY_EPOCHS = 0.1, 1_000, 20
DAY_ROWS = 20_000
RULES = (
    (Rule("quality", 0.02, True), BASE),
    (Rule("errors", 0.01, False), 0.0),
    (Rule("latency", 0.1, False), 0.01),
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """users 0: rows of nobody in particular. correlation: of a user's errors. keyed: whether users
    send a routing key. rows: of a request. burst: rows in a row of one user. wave: by how much the
    error moves up and down in DAY_ROWS. mix: users are awake at hours of their own, those who err
    more later in the day."""

    name: str
    users: int = 0
    correlation: float = 0.0
    rows: int = 1
    burst: int = 1
    keyed: bool = True
    wave: float = 0.0
    mix: bool = False


TRAFFIC = (
    Traffic("independent rows"),
    Traffic("independent rows, 20 a request", rows=20),
    Traffic("2,000 users, .05", 2_000, 0.05),
    Traffic("500 users, .05", 500, 0.05),
    Traffic("500 users, .1", 500, 0.1),
    Traffic("500 users, .2", 500, 0.2),
    Traffic("100 users, .1", 100, 0.1),
    Traffic("100 users, .2", 100, 0.2),
    Traffic("500 users, .1, bursts of 20", 500, 0.1, burst=20),
    Traffic("500 users, .1, bursts of 20, no key", 500, 0.1, burst=20, keyed=False),
    Traffic("±3 points a day", wave=0.03),
    Traffic("500 users, .1, ±3 points a day", 500, 0.1, wave=0.03),
    Traffic("500 users, .1, a mix that shifts in the day", 500, 0.1, mix=True),
)


class Simulation:
    """Rows of an epoch at a time; a user's own error rate is drawn once, from a beta law."""

    def __init__(self, traffic: Traffic, effect: float, seed: int) -> None:
        self.traffic, self.effect, self.seen = traffic, effect, 0
        self.rng = np.random.default_rng(seed)
        if traffic.users:
            both = (1 - traffic.correlation) / traffic.correlation
            self.own = self.rng.beta(BASE * both, (1 - BASE) * both, traffic.users)
            activity = 1 / np.arange(1, traffic.users + 1)
            self.activity = activity / activity.sum()
            self.own *= BASE / (self.own @ self.activity)  # the base error of the traffic is BASE
            self.keys = self.rng.integers(0, 2**62, traffic.users)
            if traffic.mix:  # the hour of a half of the users goes with their error
                self.hour = np.where(
                    self.rng.random(traffic.users) < 0.5,
                    np.argsort(np.argsort(self.own)) / (2 * traffic.users),
                    self.rng.random(traffic.users),
                )

    def epoch(self, span: SplitSpan, number: int) -> tuple[DrawnRows, Floats, Ints]:
        """Its rows with their draws, their losses, and their users (0 if there are none)."""
        n, rng, traffic = EPOCH_ROWS, self.rng, self.traffic
        request = np.arange(n) // traffic.rows
        begins = us_of(span.since) + number * round(STICKY_S * 1e6)
        at = begins + request * round(STICKY_S * 1e6) // (request[-1] + 1)
        key, wrong, user = np.full(n, NO_KEY), np.full(n, BASE), np.zeros(n, np.int64)
        if traffic.users:
            user = self._users(n)
            wrong = self.own[user]
            key = self.keys[user] if traffic.keyed else key
        day = (self.seen + np.arange(n)) / DAY_ROWS
        wrong = wrong + traffic.wave * np.sin(2 * np.pi * day)
        self.seen += n
        rows = ArmRows(
            at,
            (rng.random(request[-1] + 1) < span.weight)[request],  # of requests without a key
            np.append(True, request[1:] != request[:-1]),
            np.full(n, 0.01),
            np.zeros(n, bool),
            np.ones(n, bool),
            np.full(n, np.nan),
            np.full(n, np.nan),
            key,
        )
        draws = drawn(rows, (span,))
        loss = rng.random(n) < np.clip(wrong + draws.canary * self.effect, 0, 1)
        return draws, loss.astype(np.float64), user

    def _users(self, n: int) -> Ints:
        traffic, rng = self.traffic, self.rng
        activity = self.activity
        if traffic.mix:
            hour = (self.seen + n / 2) / DAY_ROWS
            activity = activity * (1 + np.cos(2 * np.pi * (hour - self.hour)))
            activity = activity / activity.sum()
        user = rng.choice(traffic.users, -(-n // traffic.burst), p=activity)
        return np.repeat(user, traffic.burst)[:n]


class Past:
    """The champion's losses of the last epochs, by user: what a `KeyHistory` is made of."""

    def __init__(self, keys: Ints) -> None:
        self.order = np.argsort(keys)
        self.keys, self.place = keys[self.order], np.argsort(self.order)
        self.epochs: deque[tuple[Floats, Floats]] = deque(maxlen=HISTORY_EPOCHS)

    def add(self, user: Ints, loss: Floats) -> None:
        place, k = self.place[user], len(self.keys)
        rows = np.bincount(place, minlength=k).astype(np.float64)
        self.epochs.append((rows, np.bincount(place, loss, minlength=k)))

    @property
    def history(self) -> KeyHistory:
        if not self.epochs:
            return NO_HISTORY
        rows, losses = np.sum(self.epochs, axis=0)
        return KeyHistory.of_sums(self.keys, rows, losses, losses.sum())  # 0 and 1 are squares


def walk(traffic: Traffic, effect: float, seed: int, max_rows: int) -> Outcome:
    """The ladder until a verdict, or `max_rows` rows."""
    simulation = Simulation(traffic, effect, seed)
    past = Past(simulation.keys) if traffic.users and traffic.keyed else None

    def look(span: SplitSpan, number: int, trial: Trial) -> tuple[DrawnRows, Mapping[str, Units]]:
        draws, loss, user = simulation.epoch(span, number)
        rows, stable = draws.rows, ~draws.canary
        slow = simulation.rng.random(len(loss)) < 0.01
        values = {
            "quality": loss,
            "errors": np.where(rows.first, 0.0, np.nan),
            "latency": np.where(rows.first, slow, np.nan),
        }
        known = {"quality": NO_HISTORY if past is None else past.history}
        units = {
            (name := m.rule.name): draws.units(values[name], known.get(name, NO_HISTORY), m.q, 0.0)
            for m in trial.metrics
        }
        if past is not None:
            past.add(user[stable], loss[stable])
        return draws, units

    return climb(RULES, look, seed, max_rows)
