"""Decides whether a candidate that answered the champion's rows is worse, by the differences of
their losses on the same row.

Both versions answer every user, so no draw is needed. Of a null hypothesis "the mean difference is
at most d0" (or at least) the wealth is the product of 1 + s (x - d0) over the differences x in
[-1, 1], with a stake s that comes from earlier rows: a test martingale while a row's difference,
given the rows before it, has the mean that the hypothesis says. That holds for any mix of users
whose rows arrive in an independent order. Rows that come in bursts of one user are fewer
observations than they seem: the wealth of n such rows is raised to the power 1/k, k the design
effect (`Dependence`). For groups of k rows that depend on each other in any way this is exactly
valid by Hölder's inequality; for weaker dependence, k is measured from sums of consecutive rows.
Why, and what is assumed, is in docs/adr/0043-shadow-first.md.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import ceil, log, sqrt
from typing import Any, Literal

import numpy as np

from driftloop_rollout.units import Floats
from driftloop_rollout.verdict import (
    BETS,
    HARM_ALPHA,
    LEAST_VARIANCE,
    PROOF_ALPHA,
    EProcess,
    Rule,
    Word,
    better_alpha,
)

PAIR_AT_STAKE = 0.5  # share of the wealth that the worst outcome of one row may cost
PRIOR_ROWS, PRIOR_SQUARE = 50.0, 0.1  # pseudo-observations of the mean squared difference
CHUNK_ROWS = 500  # after which stakes are chosen anew
LEAST_PAIRS = 200  # before which nothing is decided: the design effect is unknown
BLOCK_ROWS = (5, 20, 80, 320)
LEAST_BLOCKS = 10
UNKNOWN_EFFECT = 3.0  # assumed until there are LEAST_PAIRS rows

PairAction = Literal["roll_back", "proven", "hold"]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sums of `size` consecutive differences: their number, total and squares, and the sum and the
    length of the one that is not full yet."""

    size: int
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    tail: float = 0.0
    tail_rows: int = 0

    def update(self, differences: Floats) -> "Blocks":
        # The sum begun before is one row, at the place that its length says.
        rows = np.concatenate([np.zeros(self.tail_rows), differences])
        if self.tail_rows:
            rows[0] = self.tail
        full = len(rows) // self.size
        sums = rows[: full * self.size].reshape(full, self.size).sum(1)
        rest = rows[full * self.size :]
        return replace(
            self,
            count=self.count + full,
            total=self.total + float(sums.sum()),
            squares=self.squares + float((sums**2).sum()),
            tail=float(rest.sum()),
            tail_rows=len(rest),
        )

    @property
    def variance(self) -> float:
        mean = self.total / self.count
        return max(0.0, self.squares / self.count - mean * mean)


@dataclass(frozen=True, slots=True)
class Dependence:
    """How much consecutive differences depend on each other."""

    rows: int = 0
    total: float = 0.0
    squares: float = 0.0
    blocks: tuple[Blocks, ...] = field(default_factory=lambda: tuple(map(Blocks, BLOCK_ROWS)))

    def update(self, differences: Floats) -> "Dependence":
        return Dependence(
            self.rows + len(differences),
            self.total + float(differences.sum()),
            self.squares + float((differences**2).sum()),
            tuple(block.update(differences) for block in self.blocks),
        )

    @property
    def square(self) -> float:
        """The mean squared difference, which bets assume."""
        return (self.squares + PRIOR_ROWS * PRIOR_SQUARE) / (self.rows + PRIOR_ROWS)

    @property
    def effect(self) -> float:
        """The design effect: the variance of sums of consecutive rows over that of as many
        independent rows, at the block size at which it is largest; at least 1."""
        if self.rows < LEAST_PAIRS:
            return UNKNOWN_EFFECT
        mean = self.total / self.rows
        one = self.squares / self.rows - mean * mean
        if one <= 0.0:
            return 1.0
        known = (b for b in self.blocks if b.count >= LEAST_BLOCKS)
        # A variance of few sums may be too small by about a standard error, which is added.
        return max(1.0, *(b.variance / (b.size * one) * (1 + 1 / sqrt(b.count)) for b in known))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Dependence":
        return cls(**{**value, "blocks": tuple(Blocks(**b) for b in value["blocks"])})


@dataclass(frozen=True, slots=True)
class PairTest(EProcess):
    """Of one sample of differences."""

    def update(self, differences: Floats, square: float, effect: float) -> "PairTest":
        """Bet on differences. square: the mean square of earlier ones; effect: see
        `Dependence`."""
        stakes = self.scale * BETS / max(square, min(LEAST_VARIANCE, self.scale))
        worst = 1.0 + self.side * self.d0  # x = -side
        stakes = self.side * np.minimum(stakes, PAIR_AT_STAKE / worst)
        gains = np.log1p(stakes[:, None] * (differences - self.d0)).sum(1)
        return self.gained(gains / effect)


@dataclass(frozen=True, slots=True)
class PairMetric:
    """The counts and tests of one loss. differ: rows on which the losses differ. proven_rows: after
    how many rows it was proven; 0: it is not."""

    rule: Rule
    worse: PairTest
    better: PairTest
    near: PairTest
    proof: PairTest
    dependence: Dependence = field(default_factory=Dependence)
    rows: int = 0
    candidate_sum: float = 0.0
    champion_sum: float = 0.0
    differ: int = 0
    proven_rows: int = 0

    @classmethod
    def start(cls, rule: Rule) -> "PairMetric":
        m, proof = rule.margin, rule.proof_margin
        return cls(
            rule,
            worse=PairTest(0.0, 1, m),
            better=PairTest(0.0, -1, m),
            near=PairTest(-m, 1, m),
            proof=PairTest(proof, -1, proof),
        )

    def update(self, candidate: Floats, champion: Floats) -> "PairMetric":
        """Bet on the losses [n] of rows that were not used before, in the order in which they were
        answered; a row in which either is NaN does not count."""
        known = ~(np.isnan(candidate) | np.isnan(champion))
        candidate, champion = candidate[known], champion[known]
        found = self
        for at in range(0, len(candidate), CHUNK_ROWS):
            part = slice(at, at + CHUNK_ROWS)
            found = found._bet(candidate[part], champion[part])
        return found

    def _bet(self, candidate: Floats, champion: Floats) -> "PairMetric":
        differences = candidate - champion
        square, dependence = self.dependence.square, self.dependence.update(differences)
        told = differences, square, dependence.effect
        after = replace(
            self,
            worse=self.worse.update(*told),
            better=self.better.update(*told),
            near=self.near.update(*told),
            proof=self.proof.update(*told),
            dependence=dependence,
            rows=self.rows + len(differences),
            candidate_sum=self.candidate_sum + float(candidate.sum()),
            champion_sum=self.champion_sum + float(champion.sum()),
            differ=self.differ + int((differences != 0).sum()),
        )
        return (
            after
            if after.proven_rows or not after.proven
            else replace(after, proven_rows=after.rows)
        )

    @property
    def counts(self) -> bool:
        """Whether there are enough rows to decide anything."""
        return self.rows >= LEAST_PAIRS

    @property
    def proven(self) -> bool:
        return self.counts and self.proof.shows(self.rule.proof_alpha)

    def harmed(self, alpha: float) -> bool:
        return self.counts and self.worse.shows(alpha)

    @property
    def rows_needed(self) -> int:
        """About how many rows a candidate that equals the champion needs to be proven."""
        d, m = self.dependence, self.rule.proof_margin
        needed = 2 * d.square * d.effect * (log(1 / self.rule.proof_alpha) + 1) / m**2
        return max(LEAST_PAIRS, ceil(needed))

    @property
    def compared(self) -> str:
        if not self.rows:
            return "no pair yet"
        candidate, champion = self.candidate_sum / self.rows, self.champion_sum / self.rows
        return (
            f"candidate {candidate:.4f}, champion {champion:.4f} on the same {self.rows:,} rows, "
            f"different on {self.differ / self.rows:.1%}"
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "PairMetric":
        tests = {n: PairTest.from_dict(value[n]) for n in ("worse", "better", "near", "proof")}
        dependence = Dependence.from_dict(value["dependence"])
        return cls(**{**value, **tests, "dependence": dependence, "rule": Rule(**value["rule"])})


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """numbers: of each metric. proven: the names of the metrics that are."""

    action: PairAction
    word: Word
    reason: str
    numbers: dict[str, dict[str, float | int | None]]
    proven: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PairTrial:
    """All metrics that are judged by pairs."""

    metrics: tuple[PairMetric, ...] = ()

    def update(self, losses: Mapping[str, tuple[Floats, Floats]]) -> "PairTrial":
        """losses: the candidate's and the champion's, by the name of the metric."""
        return PairTrial(
            tuple(
                m.update(*losses[m.rule.name]) if m.rule.name in losses else m for m in self.metrics
            )
        )

    def metric(self, name: str) -> PairMetric | None:
        return next((m for m in self.metrics if m.rule.name == name), None)

    def judge(self) -> PairVerdict:
        """Worse if any metric shows harm. Proven once the decisive metrics are, and each guard is
        too or has had as many rows again: what it still lacks is left to the canary."""
        numbers = {m.rule.name: _numbers(m) for m in self.metrics}
        for m in self.metrics:
            if m.harmed(HARM_ALPHA * m.rule.share / len(self.metrics)):
                reason = f"{m.rule.title}: {m.compared}; worse is shown at p < {HARM_ALPHA}"
                return PairVerdict("roll_back", "worse", reason, numbers)
        proven = tuple(m.rule.name for m in self.metrics if m.proven)
        decisive = [m for m in self.metrics if m.rule.decisive]
        waiting = [m for m in decisive if not m.proven]
        if not waiting:
            soon = any(m.rows < 2 * m.proven_rows for m in decisive)
            waiting = [m for m in self.metrics if soon and not m.proven]
        if waiting or not self.metrics:
            names = "; ".join(f"{m.rule.title}: {m.compared}" for m in waiting)
            reason = f"not enough pairs yet on {names}"
            return PairVerdict("hold", "undecided", reason, numbers, proven)
        reason = "; ".join(f"{m.rule.title}: {m.compared}" for m in self.metrics)
        return PairVerdict("proven", self._word(decisive), reason, numbers, proven)

    @staticmethod
    def _word(decisive: list[PairMetric]) -> Word:
        if any(m.better.shows(better_alpha(m.rule for m in decisive)) for m in decisive):
            return "better"
        if decisive and all(m.near.shows(PROOF_ALPHA) for m in decisive):
            return "equivalent"
        return "not worse"

    def to_dict(self) -> dict[str, Any]:
        return {"metrics": [asdict(m) for m in self.metrics]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "PairTrial":
        return cls(tuple(PairMetric.from_dict(m) for m in value["metrics"]))


def _numbers(m: PairMetric) -> dict[str, float | int | None]:
    return {
        "candidate": m.candidate_sum / m.rows if m.rows else None,
        "champion": m.champion_sum / m.rows if m.rows else None,
        "pairs": m.rows,
        "differ": m.differ,
        "design_effect": m.dependence.effect,
        "log_e_worse": m.worse.best,
        "log_e_better": m.better.best,
        "log_e_proof": m.proof.best,
    }
