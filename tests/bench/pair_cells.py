"""Simulated rows that champion and candidate both answered, for `bench_verdict`.

On a share of the rows the two disagree, so that exactly one of them is wrong. Users differ in how
often, and in which of the two is right there: a user's rows depend on each other.
"""

from dataclasses import dataclass

import numpy as np
from ladder import Outcome

from driftloop_rollout.pairs import PairMetric, PairTrial
from driftloop_rollout.units import Floats
from driftloop_rollout.verdict import GUARD_PROOF_MARGIN, Rule

LOOK_ROWS = 100
RULES = (
    Rule("quality", 0.02, True, share=0.5),
    Rule("errors", 0.01, False, GUARD_PROOF_MARGIN, share=0.5),
)


@dataclass(frozen=True, slots=True)
class Pairs:
    """differ: the share of the rows on which the losses differ. users 0: independent rows. spread:
    the correlation between a user's disagreements. burst: how many rows of a user come in a row."""

    name: str
    differ: float
    users: int = 0
    spread: float = 0.0
    burst: int = 1


PAIRS = (
    Pairs("pairs, 1 % differ", 0.01),
    Pairs("pairs, 4 % differ", 0.04),
    Pairs("pairs, 4 % differ, 2,000 users, .05", 0.04, 2_000, 0.05),
    Pairs("pairs, 4 % differ, 500 users, .1", 0.04, 500, 0.1),
    Pairs("pairs, 4 % differ, 100 users, .2", 0.04, 100, 0.2),
    Pairs("pairs, 4 % differ, 500 users, .1, bursts of 20", 0.04, 500, 0.1, 20),
    Pairs("pairs, 10 % differ, 100 users, .1", 0.1, 100, 0.1),
)


class Differences:
    """Differences of the losses, candidate less champion, with the mean `effect`."""

    def __init__(self, pairs: Pairs, effect: float, seed: int) -> None:
        self.pairs, self.rng = pairs, np.random.default_rng(seed)
        rng, q = self.rng, pairs.differ
        if not pairs.users:
            self.activity = np.ones(1)
            self.differ, self.lean = np.array([q]), np.array([effect / q])
            return
        activity = 1 / np.arange(1, pairs.users + 1)
        self.activity = activity / activity.sum()
        both = (1 - pairs.spread) / pairs.spread
        self.differ = rng.beta(q * both, (1 - q) * both, pairs.users)
        self.differ = np.minimum(self.differ * q / (self.differ @ self.activity), 1.0)
        lean, low, high = rng.uniform(-1, 1, pairs.users), -2.0, 2.0
        for _ in range(60):  # so that the mean over the traffic is the effect
            shift = (low + high) / 2
            self.lean = np.clip(lean + shift, -1, 1)
            over = (self.differ * self.lean) @ self.activity > effect
            low, high = (low, shift) if over else (shift, high)

    def next(self, rows: int) -> Floats:
        rng, burst = self.rng, self.pairs.burst
        user = rng.choice(len(self.activity), -(-rows // burst), p=self.activity)
        user = np.repeat(user, burst)[:rows]
        differs = rng.random(rows) < self.differ[user]
        worse = rng.random(rows) < (1 + self.lean[user]) / 2
        return np.where(differs, np.where(worse, 1.0, -1.0), 0.0)


def walk_pairs(pairs: Pairs, effect: float, seed: int, max_rows: int) -> Outcome:
    """The shadow until a verdict, or `max_rows` rows."""
    simulation = Differences(pairs, effect, seed)
    trial = PairTrial(tuple(map(PairMetric.start, RULES)))
    none = np.zeros(LOOK_ROWS)
    for rows in range(LOOK_ROWS, max_rows + 1, LOOK_ROWS):
        differences = simulation.next(LOOK_ROWS)
        losses = np.maximum(differences, 0), np.maximum(-differences, 0)
        trial = trial.update({"quality": losses, "errors": (none, none)})
        verdict = trial.judge()
        if verdict.action != "hold":
            return Outcome(verdict.action, rows, 0)
    return Outcome("hold", max_rows, 0)
