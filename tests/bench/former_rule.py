"""The rule that the verdict by assignment replaced, for the comparison that the verdict's benchmark
makes: a two-arm betting test on rows that it takes as independent (docs/adr/0004-rollback-rule.md).
It is not valid for users with a routing key.
"""

from math import log

import numpy as np
from ladder import RUNGS, Outcome
from traffic_cells import BASE, EPOCH_ROWS, RULES

from driftloop_rollout.units import Floats
from driftloop_rollout.verdict import BETS, GATE_ALPHA, HARM_ALPHA, PRIOR_WEIGHT, Rule


class RowTest:
    """side 1: the null hypothesis is d <= d0; -1: d >= d0, of d = the canary's mean loss less the
    stable arm's. best: the logarithm of the highest wealth."""

    def __init__(self, d0: float, side: int, scale: float) -> None:
        self.d0, self.bets = d0, side * scale * BETS
        self.wealth, self.best = np.zeros(len(BETS)), 0.0

    def update(self, canary: Floats, stable: Floats, q: float) -> None:
        """Losses of the arms in the same time; q: the mean loss before it."""
        share, d0, b = len(canary) / (len(canary) + len(stable)), self.d0, self.bets
        m, qc = q + b * share, float(np.clip(q + d0, 0.002, 0.998))
        v = (1 - share) * qc * (1 - qc) + share * q * (1 - q)
        on_canary, on_stable = b * (1 - share) / v, -b * share / v
        ends = [-on_canary * (m + d0), on_canary * (1 - m - d0), -on_stable * m]
        worst = np.min([*ends, on_stable * (1 - m)], axis=0)
        k = np.minimum(1, 0.9 / np.maximum(-worst, 1e-12))
        for losses, stake, mean in ((canary, on_canary, m + d0), (stable, on_stable, m)):
            values, counts = np.unique(losses, return_counts=True)
            self.wealth += np.log1p(k * stake * (values[:, None] - mean)).T @ counts
        top = float(self.wealth.max())
        self.best = max(self.best, top + float(np.log(np.exp(self.wealth - top).mean())))


class RowMetric:
    def __init__(self, rule: Rule, prior: float) -> None:
        margin, after = rule.margin, [*RUNGS[1:], 1.0]
        self.rule, self.seen, self.total = rule, PRIOR_WEIGHT, PRIOR_WEIGHT * prior
        self.worse = RowTest(0.0, 1, margin)
        self.proof = RowTest(rule.proof_margin, -1, rule.proof_margin)
        self.gates = [RowTest(rule.gate_margin(w), -1, margin) for w in after]
        if not rule.decisive:
            self.gates = []

    def update(self, canary: Floats, stable: Floats) -> None:
        q = max(self.total / self.seen, 1e-4)
        for test in (self.worse, self.proof, *self.gates):
            test.update(canary, stable, q)
        self.seen, self.total = self.seen + len(stable), self.total + float(stable.sum())


def walk_former(effect: float, seed: int, max_rows: int) -> Outcome:
    """The same ladder, levels and independent rows, under the former rule."""
    rng, metrics = np.random.default_rng(seed), [RowMetric(rule, prior) for rule, prior in RULES]
    rung = total = on_canary = 0
    while total < max_rows:
        canary = rng.random(EPOCH_ROWS) < RUNGS[rung]
        wrong = (rng.random(EPOCH_ROWS) < BASE + effect * canary).astype(np.float64)
        slow = (rng.random(EPOCH_ROWS) < 0.01).astype(np.float64)
        for metric, loss in zip(metrics, (wrong, np.zeros(EPOCH_ROWS), slow), strict=True):
            metric.update(loss[canary], loss[~canary])
        total, on_canary = total + EPOCH_ROWS, on_canary + int(canary.sum())
        if any(m.worse.best >= log(len(metrics) / HARM_ALPHA) for m in metrics):
            return Outcome("roll_back", total, on_canary)
        if rung < len(RUNGS) - 1:
            rung += all(m.gates[rung].best >= log(1 / GATE_ALPHA) for m in metrics if m.gates)
        elif all(m.proof.best >= log(1 / m.rule.proof_alpha) for m in metrics):
            return Outcome("promote", total, on_canary)
    return Outcome("hold", total, on_canary)
