"""How long a rollout still needs for its verdict if the canary equals the champion, with this
traffic and these labels; and what would help if that is longer than it may take. Pure.

Evidence is counted as information: rows a second times w (1 - w), with w the canary's share. A gate
needs 2v (ln(1/alpha) + 1) / effect² of it (see `verdict.observations_needed`). A row counts when
its label has come, so each step continues while the labels of its rows are waited for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from math import inf, isfinite, log
from typing import Any

from driftloop_contracts.durations import in_words
from driftloop_evaluation.measures import QUALITY
from driftloop_rollout.evidence import RolloutEvidence
from driftloop_rollout.verdict import (
    GATE_ALPHA,
    PROOF_ALPHA,
    REQUESTS,
    BettingTest,
    Metric,
    observations_needed,
    smallest_effect,
)

SOME_TRAFFIC = timedelta(seconds=30)
"""From then on the rate is that of the rollout's own traffic."""
MOST = 1_000.0
"""Advice does not name a larger factor, of the margin or of the traffic."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """seconds_to_verdict: from now; None: unknown, or never. label_age_s,
    label_share: see `LabelDelay`. late: why there will be no verdict before the deadline, and what
    would help; empty if there will be one."""

    seconds_to_verdict: float | None = None
    smallest_effect_in_an_hour: float = 1.0
    label_age_s: float | None = None
    label_share: float | None = None
    late: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Outlook":
        names = cls.__dataclass_fields__
        return cls(**{name: given for name, given in value.items() if name in names})

    @property
    def sentence(self) -> str:
        """For people, without a full stop."""
        if self.late:
            return self.late
        if self.seconds_to_verdict is None:
            return "the time to a verdict is not known yet"
        labels = f", of which labels take {in_words(self.label_age_s)}" if self.label_age_s else ""
        return f"about {in_words(self.seconds_to_verdict)} to a verdict{labels}"


@dataclass(frozen=True, slots=True)
class Course:
    """What one metric still needs. needs: the information from `since_s` on, for the gate of each
    rung from the current one, the last being the proof. lag_s: the age at which its rows count."""

    needs: tuple[float, ...]
    per_s: float
    lag_s: float
    since_s: float


def outlook(
    seen: RolloutEvidence,
    rungs: Sequence[float],
    step: int,
    now: datetime,
    deadline: datetime,
    said_age_s: float | None,
) -> Outlook:
    """Estimate. rungs: the weights below 1; step: the number of the current one. said_age_s:
    `rollout.label_age_s`."""
    baseline, metric = seen.baseline, seen.trial.metrics[0]
    pace, by_labels = _pace(seen), metric.rule.name not in REQUESTS  # not if pairs have proven it
    per_s = pace * (baseline.rows_per_s if by_labels else baseline.requests_per_s)
    labels, left_s = seen.labels, (deadline - now).total_seconds()
    age_s = said_age_s
    if age_s is None and labels is not None:
        age_s = labels.age_s
    share = labels.share if labels is not None and labels.known_s else None
    effect = smallest_effect(metric.q, rungs[-1], PROOF_ALPHA, per_s * _share(share), 3600.0)
    found = Outlook(None, effect, age_s, share)
    if by_labels and share == 0.0 and not metric.canary_count:
        age = in_words(labels.known_s if labels else 0.0)
        return replace(
            found,
            late=f"no label of the champion's rows has come within {age}: without labels there is "
            "no verdict on quality, and the rollout ends at its deadline",
        )
    if by_labels and age_s is None and share is not None and share < 1.0:
        return found  # labels are still coming at the greatest age that was seen

    def seconds(margin: float = 1.0, traffic: float = 1.0) -> float:
        faster = pace * traffic
        courses = _courses(seen, rungs, step, now, age_s or 0.0, _share(share), margin, faster)
        return walk(courses, _weights(seen, now), rungs[step:])

    needed = seconds()
    found = replace(found, seconds_to_verdict=needed if isfinite(needed) else None)
    if needed <= left_s:
        return found
    unpaired = by_labels and metric.rule.share == 1.0  # else the shadow has used a part
    late = _late(needed, left_s, age_s or 0.0, metric.rule.margin, seconds, unpaired)
    return replace(found, late=late)


def _pace(seen: RolloutEvidence) -> float:
    """Return the present traffic over that of the champion's past."""
    errors = seen.trial.metric("errors")
    begun = next((span.started for span in seen.splits if span.started is not None), None)
    if errors is None or begun is None or seen.requests_until - begun < SOME_TRAFFIC:
        return 1.0
    requests = errors.canary_count + errors.stable_count
    seconds = (seen.requests_until - begun).total_seconds()
    return requests / seconds / max(seen.baseline.requests_per_s, 1e-9)


def _share(share: float | None) -> float:
    return 1.0 if share is None else share


def _late(
    needed: float,
    left_s: float,
    age_s: float,
    margin: float,
    seconds: Callable[..., float],
    unpaired: bool,
) -> str:
    span = f"about {in_words(needed)}" if isfinite(needed) else "longer than anybody waits"
    what = f"no verdict before the deadline: it needs {span} and has {in_words(max(left_s, 0.0))}"
    helps = []
    if unpaired:
        helps.append("a shadow that replays rows which have labels (`rollout.shadow_share`)")
    if age_s < left_s:
        wider = _least(lambda factor: seconds(margin=factor) <= left_s)
        if wider is not None and wider * margin < 1:
            helps.append(f"a margin of {wider * margin:.2g} in place of {margin:.2g}")
        more = _least(lambda factor: seconds(traffic=factor) <= left_s)
        if more is not None:
            helps.append(f"{more:.2g} times the traffic")
    if isfinite(needed):
        helps.append(f"a deadline {in_words(needed - left_s)} later (`rollout.deadline_s`)")
    return f"{what}; what helps: {', '.join(helps)}" if helps else what


def _least(enough: Callable[[float], bool]) -> float | None:
    """The least factor from 1 that is enough, to a tenth; None: none up to MOST is."""
    low, high = 1.0, MOST
    if not enough(high):
        return None
    while high / low > 1.1:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _courses(
    seen: RolloutEvidence,
    rungs: Sequence[float],
    step: int,
    now: datetime,
    age_s: float,
    share: float,
    margin: float,
    traffic: float,
) -> list[Course]:
    courses = []
    decisive = seen.trial.metrics[0]
    for metric in (m for m in seen.trial.metrics if m.rule.required and not m.rule.proven):
        requests = metric.rule.name in REQUESTS
        per_s = seen.baseline.requests_per_s if requests else seen.baseline.rows_per_s * share
        if metric.rule.name not in (*REQUESTS, QUALITY) and decisive.stable_count:
            per_s *= metric.stable_count / decisive.stable_count
        until = seen.requests_until if requests else seen.labels_until
        since_s = (until - now).total_seconds()
        gates = metric.gates[step : len(rungs) - 1] if metric.gates else ()
        needs = [_need(metric, gate, GATE_ALPHA, margin) for gate in gates]
        needs += [0.0] * (len(rungs) - 1 - step - len(needs))
        needs.append(_need(metric, metric.proof, metric.rule.proof_alpha, margin))
        courses.append(Course(tuple(needs), per_s * traffic, 0.0 if requests else age_s, since_s))
    return courses


def _need(metric: Metric, test: BettingTest, alpha: float, margin: float) -> float:
    left = max(0.0, 1.0 - test.best / log(1 / alpha))
    # At the share of one half, rows and information are in a fixed ratio.
    return left * observations_needed(metric.q, 0.5, test.d0 * margin, alpha) / 2.0


def _weights(seen: RolloutEvidence, now: datetime) -> list[tuple[float, float]]:
    """The beginnings of the steps so far, in seconds from now, with their weights."""
    spans = [(span.started, span.weight) for span in seen.splits if span.started is not None]
    return [((at - now).total_seconds(), weight) for at, weight in spans] or [(0.0, 0.0)]


def walk(
    courses: Sequence[Course], past: Sequence[tuple[float, float]], rungs: Sequence[float]
) -> float:
    """Return the seconds from now to the verdict. past: the beginning (≤ 0) and weight of each step
    so far. rungs: the weights from the current step on."""
    steps = list(past)
    if steps[-1][1] != rungs[0]:
        steps.append((0.0, rungs[0]))
    at = 0.0
    for number, weight in enumerate(rungs):
        if number:
            steps.append((at, weight))
        at = max([at, *(_reached(course, steps, course.needs[number]) for course in courses)])
        if not isfinite(at):
            return inf
    return at


def _reached(course: Course, steps: Sequence[tuple[float, float]], need: float) -> float:
    """When the rows since `since_s` give `need`, if the last step never ends."""
    if need <= 0:
        return 0.0
    ends = [begin for begin, _ in steps[1:]] + [inf]
    for (begin, weight), end in zip(steps, ends, strict=True):
        begin = max(begin, course.since_s)
        rate = course.per_s * weight * (1.0 - weight)
        if end <= begin or rate <= 0:
            continue
        if begin + need / rate <= end:
            return begin + need / rate + course.lag_s
        need -= (end - begin) * rate
    return inf
