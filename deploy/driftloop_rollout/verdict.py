"""Decides whether the canary is worse, better or neither, by betting e-processes on the draw of
the arms. They stay valid however often one looks at them.

A metric is a loss in [0, 1] per request or row; d is the canary's mean loss less the stable arm's.
The bet is on the draw itself. Take a unit (see `units`) with n rows and the summed loss L, drawn
for the canary (Z = 1, else 0) with the probability w, and let p be the expected loss of a row:

    (Z - w) (L - Z d0 n - p n)

has the mean 0 if d = d0, given everything seen before the draw, whatever the units are like and
however their rows depend on each other. It is w (1 - w) times the unit's loss in one arm less that
in the other, less d0 n. Test martingales after Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting" (2024), for a randomised experiment: under the null hypothesis
the wealth exceeds 1/alpha with a probability of at most alpha, ever. Which test decides what, and
why, is in docs/adr/0004-rollback-rule.md; why it bets on draws, in 0034-verdicts-by-assignment.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, exp, inf, log, sqrt
from typing import Any, Literal, Self

import numpy as np

from driftloop_rollout.units import Floats, Units

Action = Literal["roll_back", "promote", "advance", "hold"]
Word = Literal["worse", "better", "equivalent", "not worse", "undecided"]

BETS = np.array([0.5, 1.0, 2.0, 4.0, 8.0])  # in units of the margin
HARM_ALPHA = 0.01  # of false rollbacks, over all metrics together
PROOF_ALPHA = 0.01  # of promoting a canary that is worse by the margin
GATE_ALPHA = 0.05  # of steps to the next rung, and of the proofs of guards
GUARD_PROOF_MARGIN = 0.05  # the least margin that a guard must exclude before a promotion
PRIOR_WEIGHT = 100.0  # pseudo-observations at the champion's historic rate
LEAST_VARIANCE = 0.002  # that bets assume; less if the margin itself is smaller
REQUESTS = frozenset({"errors", "latency"})
"""The metrics of requests; others are of rows."""
AFTER = " after the promotion"
"""Ends the names of metrics of rows after the promotion."""
MOST_AT_STAKE = 0.9  # share of the wealth that the worst outcome of one unit may cost


@dataclass(frozen=True, slots=True)
class EProcess:
    """side +1: H0 is d <= d0, so that wealth means "worse"; side -1: H0 is d >= d0.

    best: the natural logarithm of the highest mean wealth so far; exp(-best) is a p-value.
    """

    d0: float
    side: int
    scale: float
    log_wealth: tuple[float, ...] = (0.0,) * len(BETS)
    best: float = 0.0

    def gained(self, gains: Floats) -> Self:
        """gains: of the logarithm of each bet's wealth."""
        wealth = [old + gain for old, gain in zip(self.log_wealth, gains.tolist(), strict=True)]
        top = max(wealth)
        mean = top + log(sum(exp(w - top) for w in wealth) / len(wealth))
        return replace(self, log_wealth=tuple(wealth), best=max(self.best, mean))

    def shows(self, alpha: float) -> bool:
        """Whether H0 is rejected at level alpha."""
        return self.best >= log(1 / alpha)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{**value, "log_wealth": tuple(value["log_wealth"])})


@dataclass(frozen=True, slots=True)
class BettingTest(EProcess):
    """Of the two arms of a canary."""

    def update(self, units: Units) -> "BettingTest":
        """Bet on units. Their expected losses must come from earlier units only."""
        return bet((self,), units)[self]


def bet(tests: Iterable[BettingTest], units: Units) -> dict[BettingTest, BettingTest]:
    """Return what becomes of the tests when they bet on units; equal ones bet once."""
    each = tuple(dict.fromkeys(tests))
    units, counts = units.counted()
    d0, side, scale = (np.array([getattr(t, n) for t in each])[:, None] for n in _TERMS)
    n, p, w = units.rows, units.expected, units.share
    v = np.maximum(p * (1 - p), np.minimum(LEAST_VARIANCE, scale)) + n * units.spread
    high, low = n * (1 - p), -n * p
    ends = [(1 - w) * (high - d0 * n), (1 - w) * (low - d0 * n)]
    most = np.maximum(*(side * -end for end in ends))
    worst = np.maximum(np.maximum(most, np.where(side < 0, w * n * p, w * high)), 1e-12)
    # a heavy unit's rows count less
    stake = np.minimum((scale / v)[:, None] * BETS[:, None], (MOST_AT_STAKE / worst)[:, None])
    gain = side * (units.canary - w) * (units.loss - n * (units.canary * d0 + p))
    gains = np.log1p(stake * gain[:, None]) @ counts
    return {test: test.gained(found) for test, found in zip(each, gains, strict=True)}


_TERMS = ("d0", "side", "scale")


@dataclass(frozen=True, slots=True)
class Rule:
    """How a metric is judged.

    margin: the harm that matters. A decisive metric passes the gate of each rung and excludes
    `margin` at PROOF_ALPHA before a promotion. A guard rolls back on harm like any metric, but
    has to exclude only max(margin, guard_margin), at GATE_ALPHA. It excludes nothing if it is not
    `required`, because the traffic has too few of its rows, or if pairs have `proven` it before.
    share: of the levels, the part that is spent here; after a shadow, half of it is gone. of: what
    a metric measures whose name does not say it, of a model with several objectives.
    """

    name: str
    margin: float
    decisive: bool
    guard_margin: float = GUARD_PROOF_MARGIN
    required: bool = True
    proven: bool = False
    share: float = 1.0
    of: str = ""

    @property
    def title(self) -> str:
        """The name for people."""
        return f"{self.name} ({self.of})" if self.of else self.name

    @property
    def proof_margin(self) -> float:
        return self.margin if self.decisive else max(self.margin, self.guard_margin)

    @property
    def proof_alpha(self) -> float:
        return self.share * PROOF_ALPHA if self.decisive else GATE_ALPHA

    def gate_margin(self, next_weight: float) -> float:
        """The harm that must be excluded before the canary gets `next_weight` of the traffic."""
        return min(max(self.margin, 0.5 * self.margin / next_weight), 0.2)


def better_alpha(decisive: Iterable[Rule]) -> float:
    """The level at which one of the decisive metrics is called better: divided among several
    objectives. That the candidate is not worse must be shown of each, so that level is not."""
    objectives = sum(rule.name not in REQUESTS for rule in decisive)
    return PROOF_ALPHA / max(1, objectives)


@dataclass(frozen=True, slots=True)
class Metric:
    """The counts and tests of a metric so far. `gates` has one test per rung; a guard has none."""

    rule: Rule
    prior: float
    worse: BettingTest
    better: BettingTest
    near: BettingTest
    proof: BettingTest
    gates: tuple[BettingTest, ...]
    prior_weight: float = PRIOR_WEIGHT
    canary_sum: float = 0.0
    canary_count: int = 0
    stable_sum: float = 0.0
    stable_count: int = 0

    @classmethod
    def start(cls, rule: Rule, rungs: Sequence[float], prior: float | None) -> "Metric":
        """rungs: the canary's weights, ascending, all below 1. prior: the champion's mean loss in
        the past; None if there is no past."""
        m, after = rule.margin, [*rungs[1:], 1.0]
        gates = tuple(BettingTest(rule.gate_margin(w), -1, m) for w in after)
        return cls(
            rule,
            0.1 if prior is None else prior,
            worse=BettingTest(0.0, 1, m),
            better=BettingTest(0.0, -1, m),
            near=BettingTest(-m, 1, m),
            proof=BettingTest(rule.proof_margin, -1, rule.proof_margin),
            gates=gates if rule.decisive else (),
            prior_weight=1.0 if prior is None else PRIOR_WEIGHT,
        )

    @property
    def q(self) -> float:
        """The mean loss of the stable arm so far, shrunk towards its past."""
        return (self.prior * self.prior_weight + self.stable_sum) / (
            self.prior_weight + self.stable_count
        )

    @property
    def difference(self) -> float | None:
        """The canary's mean loss less the stable arm's; None until both arms have losses."""
        if not self.canary_count or not self.stable_count:
            return None
        return self.canary_sum / self.canary_count - self.stable_sum / self.stable_count

    def update(self, units: Units) -> "Metric":
        """Bet on units that were not used before."""
        if not len(units):
            return self
        canary, stable = units.canary, ~units.canary
        after = bet((self.worse, self.better, self.near, self.proof, *self.gates), units)
        return replace(
            self,
            worse=after[self.worse],
            better=after[self.better],
            near=after[self.near],
            proof=after[self.proof],
            gates=tuple(after[gate] for gate in self.gates),
            canary_sum=self.canary_sum + float(units.loss[canary].sum()),
            canary_count=self.canary_count + int(units.rows[canary].sum()),
            stable_sum=self.stable_sum + float(units.loss[stable].sum()),
            stable_count=self.stable_count + int(units.rows[stable].sum()),
        )

    @property
    def proven(self) -> bool:
        done = self.rule.proven or not self.rule.required
        return done or self.proof.shows(self.rule.proof_alpha)

    def passes(self, rung: int) -> bool:
        """Whether the gate from this rung to the next is passed; guards have no gates."""
        return not self.gates or self.gates[rung].shows(GATE_ALPHA)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Metric":
        tests = {n: BettingTest.from_dict(value[n]) for n in ("worse", "better", "near", "proof")}
        gates = tuple(BettingTest.from_dict(gate) for gate in value["gates"])
        return cls(**{**value, **tests, "gates": gates, "rule": Rule(**value["rule"])})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The action, the word for it, the reason, and the numbers of each metric."""

    action: Action
    word: Word
    reason: str
    numbers: dict[str, dict[str, float | int | None]]


@dataclass(frozen=True, slots=True)
class Trial:
    """All metrics of one rollout. few: slices with too few rows to be judged at all."""

    metrics: tuple[Metric, ...]
    few: tuple[str, ...] = ()

    def update(self, units: Mapping[str, Units]) -> "Trial":
        """units: by the name of a metric; metrics without units stay as they are."""
        return Trial(
            tuple(
                m.update(units[m.rule.name]) if m.rule.name in units else m for m in self.metrics
            ),
            self.few,
        )

    def watching(self) -> "Trial":
        """The trial after a promotion: with each metric anew, for rows from then on. What was good
        before would hide what begins to be bad."""
        rules = [
            replace(m.rule, name=m.rule.name + AFTER, decisive=False, required=False)
            for m in self.metrics
        ]
        later = [Metric.start(r, (), m.q) for r, m in zip(rules, self.metrics, strict=True)]
        return replace(self, metrics=(*self.metrics, *later))

    def metric(self, name: str) -> Metric | None:
        return next((m for m in self.metrics if m.rule.name == name), None)

    def harmed(self) -> Metric | None:
        """Return the metric by which the canary is shown to be worse, if any."""
        each = HARM_ALPHA / len(self.metrics)
        return next((m for m in self.metrics if m.worse.shows(m.rule.share * each)), None)

    def judge(self, rung: int, rungs: int) -> Verdict:
        """rung: the number of the current step, from 0; rungs: the number of weights below 1."""
        numbers = {m.rule.name: _numbers(m) for m in self.metrics}
        if (bad := self.harmed()) is not None:
            reason = f"{bad.rule.title}: {_compared(bad)}; worse is shown at p < {HARM_ALPHA}"
            return Verdict("roll_back", "worse", reason, numbers)
        if rung < rungs - 1:
            waiting = [m for m in self.metrics if not m.passes(rung)]
            action: Action = "advance"
        else:
            waiting = [m for m in self.metrics if not m.proven]
            action = "promote"
        if waiting:
            names = "; ".join(f"{m.rule.title}: {_compared(m)}" for m in waiting)
            return Verdict("hold", "undecided", f"not enough evidence yet on {names}", numbers)
        word = self._word() if action == "promote" else "undecided"
        reason = "; ".join(f"{m.rule.title}: {_compared(m)}" for m in self.metrics)
        optional = [m.rule for m in self.metrics if not (m.rule.required or m.rule.proven)]
        few = [rule.name for rule in optional if not rule.name.endswith(AFTER)]
        if action == "promote" and (few := [*few, *self.few]):
            reason += f"; too few rows to tell: {', '.join(few)}"
        return Verdict(action, word, reason, numbers)

    def _word(self) -> Word:
        decisive = [m for m in self.metrics if m.rule.decisive]
        if any(m.better.shows(better_alpha(m.rule for m in decisive)) for m in decisive):
            return "better"
        if all(m.near.shows(PROOF_ALPHA) for m in decisive):
            return "equivalent"
        return "not worse"

    def to_dict(self) -> dict[str, Any]:
        return {"metrics": [asdict(m) for m in self.metrics], "few": list(self.few)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Trial":
        metrics = tuple(Metric.from_dict(m) for m in value["metrics"])
        return cls(metrics, tuple(value.get("few", ())))


def _compared(m: Metric) -> str:
    if m.difference is None:
        return f"canary n={m.canary_count}, stable n={m.stable_count}"
    canary, stable = m.canary_sum / m.canary_count, m.stable_sum / m.stable_count
    return f"canary {canary:.4f} (n={m.canary_count}), stable {stable:.4f} (n={m.stable_count})"


def _numbers(m: Metric) -> dict[str, float | int | None]:
    return {
        "canary": m.canary_sum / m.canary_count if m.canary_count else None,
        "stable": m.stable_sum / m.stable_count if m.stable_count else None,
        "canary_count": m.canary_count,
        "stable_count": m.stable_count,
        "log_e_worse": m.worse.best,
        "log_e_better": m.better.best,
        "log_e_proof": m.proof.best,
    }


def observations_needed(q: float, weight: float, effect: float, alpha: float) -> int:
    """Estimate the canary observations until a difference of `effect` is shown at level alpha:
    2v/(1-w) · (ln(1/alpha) + 1) / effect², v = q(1-q) (measured; within a third for q from .01 to
    .5)."""
    q = min(max(q, min(LEAST_VARIANCE, effect)), 0.998)
    return ceil(2 * q * (1 - q) / (1 - weight) * (log(1 / alpha) + 1) / effect**2)


def seconds_needed(q: float, weight: float, effect: float, alpha: float, per_s: float) -> float:
    """Estimate the seconds until a verdict, at `per_s` observations per second in both arms."""
    if per_s <= 0 or weight <= 0:
        return inf
    return observations_needed(q, weight, effect, alpha) / (per_s * weight)


def smallest_effect(q: float, weight: float, alpha: float, per_s: float, seconds: float) -> float:
    """Estimate the smallest difference that `seconds` of this traffic can show, at most 1."""
    canary = per_s * weight * seconds
    q = min(max(q, 0.002), 0.998)
    if canary <= 0 or weight >= 1:
        return 1.0
    return min(1.0, sqrt(2 * q * (1 - q) / (1 - weight) * (log(1 / alpha) + 1) / canary))


def first_rung(
    rule: Rule, rungs: Sequence[float], q: float, per_s: float, deadline_s: float
) -> int:
    """Return the lowest rung with enough traffic: a canary that equals the champion can pass its
    gate within its share of the deadline. If no rung has, return the last one."""
    share_s = deadline_s / len(rungs)
    for number, (weight, after) in enumerate(zip(rungs, [*rungs[1:], 1.0], strict=True)):
        effect = rule.gate_margin(after)
        if seconds_needed(q + effect, weight, effect, GATE_ALPHA, per_s) <= share_s:
            return number
    return len(rungs) - 1
