"""A rollout: its steps, the evidence against both thresholds, and its record in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from driftloop_console import words
from driftloop_console.charts import Chart, Series, e_values
from driftloop_console.tables import Column, Table
from driftloop_rollout.machine import (
    OPERATOR_EVENTS,
    TRANSITIONS,
    Event,
    Rollout,
    State,
    Transition,
)
from driftloop_rollout.verdict import HARM_ALPHA, Metric

DONE = {
    Event.ADOPT: "took the rollout on",
    Event.PASS: "began to load it: its answers in the shadow are not worse",
    Event.SKIP: "began to load it without a verdict from the shadow",
    Event.LOADED: "began the canary: replicas hold the candidate",
    Event.ADVANCE: "advanced it",
    Event.PROVE: "promoted it: the proof is complete",
    Event.HARM: "rolled it back: harm was shown",
    Event.EXPIRE: "rolled it back: the deadline passed",
    Event.SUPERSEDE: "ended it: the stable version was changed",
    Event.SETTLE: "saw that replicas serve what was decided",
    Event.PAUSE: "paused it",
    Event.RESUME: "resumed it",
    Event.PROMOTE: "promoted it without waiting for proof",
    Event.ABORT: "aborted it",
}


@dataclass(frozen=True, slots=True)
class Step:
    text: str
    now: bool


def steps(rollout: Rollout) -> list[Step]:
    """The candidate's shares, the present one marked."""
    at = rollout.step if rollout.state in (State.RUNNING, State.PAUSED) else None
    if rollout.state in (State.PROMOTING, State.PROMOTED):
        at = len(rollout.steps) - 1
    return [Step(words.share(weight), number == at) for number, weight in enumerate(rollout.steps)]


def possible(rollout: Rollout) -> list[Event]:
    """What an operator may do now."""
    return [event for event in OPERATOR_EVENTS if (rollout.state, event) in TRANSITIONS]


def harm_threshold(metrics: int) -> float:
    """The e-value from which a metric shows harm."""
    return metrics / HARM_ALPHA


def evidence_charts(rollout: Rollout) -> list[Chart]:
    """One for each metric: its e-values over time against the thresholds of harm and of proof."""
    if rollout.evidence is None or not rollout.curve:
        return []
    metrics = rollout.evidence.trial.metrics
    x = tuple(point.at.timestamp() for point in rollout.curve)
    charts = []
    for metric in metrics:
        name = metric.rule.name
        pairs = [point.logs.get(name) for point in rollout.curve]
        worse = e_values([pair and pair[0] for pair in pairs])
        proof = e_values([pair and pair[1] for pair in pairs])
        limits = harm_threshold(len(metrics)), 1 / metric.rule.proof_alpha
        charts.append(
            Chart(
                f"{name}: e-values over time, with the thresholds of rollback and of proof",
                x,
                (
                    Series("Worse", worse),
                    Series("Not worse", proof),
                    Series(f"Rolled back from {limits[0]:g}", (limits[0],) * len(x), "limit"),
                    Series(f"Proven from {limits[1]:g}", (limits[1],) * len(x), "limit"),
                ),
                log=True,
            )
        )
    return charts


def evidence_table(rollout: Rollout) -> Table:
    columns = (
        Column("metric", "Metric"),
        Column("role", "Decides"),
        Column("canary", "Canary", "number"),
        Column("canary_count", "Its rows", "count"),
        Column("stable", "Champion", "number"),
        Column("stable_count", "Its rows", "count"),
        Column("margin", "Margin", "number"),
        Column("e_worse", "e-value of harm", "number"),
        Column("harm_at", "Rolled back from", "number"),
        Column("e_proof", "e-value of proof", "number"),
        Column("proof_at", "Proven from", "number"),
        Column("verdict", "So far"),
    )
    metrics = rollout.evidence.trial.metrics if rollout.evidence else ()
    rows = [_evidence_row(metric, len(metrics)) for metric in metrics]
    empty = "Nothing is compared yet: the canary needs traffic in both arms."
    return Table("evidence", columns, rows, empty)


def _evidence_row(metric: Metric, metrics: int) -> dict[str, object]:
    harmed = metric.worse.best >= log(harm_threshold(metrics))
    verdict = "worse" if harmed else "proven" if metric.proven else "undecided"
    e_worse, e_proof = e_values([metric.worse.best, metric.proof.best])
    return {
        "metric": metric.rule.name,
        "role": "promotion" if metric.rule.decisive else "rollback only",
        "canary": metric.canary_sum / metric.canary_count if metric.canary_count else None,
        "canary_count": metric.canary_count,
        "stable": metric.stable_sum / metric.stable_count if metric.stable_count else None,
        "stable_count": metric.stable_count,
        "margin": metric.rule.margin,
        "e_worse": e_worse,
        "harm_at": harm_threshold(metrics),
        "e_proof": e_proof,
        "proof_at": 1 / metric.rule.proof_alpha,
        "verdict": verdict,
    }


def record_table(history: Sequence[Transition]) -> Table:
    """Newest first."""
    columns = (
        Column("at", "Time", "time"),
        Column("who", "Who"),
        Column("what", "Did what"),
        Column("share", "Candidate's share", "share"),
        Column("reason", "Because", "sentence"),
    )
    rows = [
        {
            "at": entry.at.isoformat(),
            "who": entry.actor,
            "what": DONE[entry.event],
            "share": entry.weight,
            "reason": entry.reason,
        }
        for entry in reversed(history)
    ]
    return Table("record", columns, rows, "The controller has not taken it on yet.")


def told(rollout: Rollout, wanted: Event) -> str:
    """To an operator whose command came too late: what happened instead."""
    last = rollout.history[-1] if rollout.history else None
    before = "Nothing was done"
    if last is None:
        return f"{before}: the rollout is {rollout.state}, and `{wanted}` is not possible."
    return (
        f"{before}: {last.actor} {DONE[last.event]} at {words.time(last.at)}. The rollout is now "
        f"{rollout.state.replace('_', ' ')}; look at it again before you {wanted} it."
    )
