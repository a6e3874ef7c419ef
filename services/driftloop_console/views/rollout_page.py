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
from driftloop_rollout.pairs import PairMetric
from driftloop_rollout.verdict import HARM_ALPHA, Metric

DONE = {
    Event.ADOPT: "took the rollout on",
    Event.PASS: "began to load it: its answers in the shadow are not worse",
    Event.SKIP: "began to load it without a verdict from the shadow",
    Event.LOADED: "began the canary: replicas hold the candidate",
    Event.ADVANCE: "advanced it",
    Event.WATCH: "promoted it, with the former champion to compare: the proof is complete",
    Event.PROVE: "promoted it: the proof is complete",
    Event.APPROVE: "approved what waited for a person",
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
    if rollout.state in (State.WATCHED, State.PROMOTING, State.PROMOTED):
        at = len(rollout.steps) - 1
    shares = [
        Step(words.share(weight), number == at) for number, weight in enumerate(rollout.steps)
    ]
    return [Step("shadow", rollout.state is State.SHADOW), *shares] if shares else []


def shadow_facts(rollout: Rollout) -> dict[str, object]:
    """What a candidate did in the shadow, before any user met it."""
    stage = rollout.shadow
    if stage is None:
        gone = (entry.reason for entry in rollout.history if entry.event is Event.SKIP)
        return {"Not there": next(gone, "it has not begun")}
    whole = stage.agreement[0]
    return {
        "Answered": f"{stage.answered:,} rows, {stage.failed:,} of them failed",
        "Same answer as the champion": words.share(stage.agreed) if whole.rows else None,
        "Proven by pairs": ", ".join(stage.proven) or None,
        "Rows from": words.time(stage.since),
        "A request alone, with the lowest priority": _milliseconds(stage.request_s),
        "The champion's requests, as served": _milliseconds(stage.champion_s),
        "Memory of its process": f"{stage.memory_bytes >> 20:,} MiB",
        "Ended unexpectedly": f"{stage.died} times" if stage.died else None,
        "Waiting": stage.waiting or None,
        "Problem": stage.problem or None,
        "Note": "; ".join(stage.notes) or None,
    }


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1_000:.3g} ms (median)"


def pair_table(rollout: Rollout) -> Table:
    """The losses of both versions on the same rows."""
    columns = (
        Column("metric", "Metric"),
        Column("role", "Decides"),
        Column("candidate", "Candidate", "number"),
        Column("champion", "Champion", "number"),
        Column("pairs", "Same rows", "count"),
        Column("differ", "Different on", "share"),
        Column("margin", "Margin", "number"),
        Column("e_worse", "e-value of harm", "number"),
        Column("harm_at", "Rolled back from", "number"),
        Column("e_proof", "e-value of proof", "number"),
        Column("proof_at", "Proven from", "number"),
    )
    metrics = rollout.shadow.trial.metrics if rollout.shadow else ()
    rows = [_pair_row(metric, len(metrics)) for metric in metrics]
    return Table("pairs", columns, rows, "Nothing was compared by pairs.")


def _pair_row(m: PairMetric, metrics: int) -> dict[str, object]:
    e_worse, e_proof = e_values([m.worse.best, m.proof.best])
    return {
        "metric": m.rule.title,
        "role": "the canary begins" if m.rule.decisive else "rollback only",
        "candidate": m.candidate_sum / m.rows if m.rows else None,
        "champion": m.champion_sum / m.rows if m.rows else None,
        "pairs": m.rows,
        "differ": m.differ / m.rows if m.rows else None,
        "margin": m.rule.margin,
        "e_worse": e_worse,
        "harm_at": harm_threshold(metrics, m.rule.share),
        "e_proof": e_proof,
        "proof_at": 1 / m.rule.proof_alpha,
    }


def agreement_table(rollout: Rollout) -> Table:
    """How often both versions gave the same answer, in each slice."""
    columns = (
        Column("part", "Rows"),
        Column("rows", "Answered by both", "count"),
        Column("agreed", "Same answer", "share"),
        Column("differed", "Different answer", "share"),
    )
    found = rollout.shadow.agreement if rollout.shadow else ()
    rows = [
        {
            "part": one.part or "all",
            "rows": one.rows,
            "agreed": one.agreed / one.rows if one.rows else None,
            "differed": 1 - one.agreed / one.rows if one.rows else None,
        }
        for one in found
    ]
    return Table("agreement", columns, rows, "The candidate has not answered anything yet.")


def possible(rollout: Rollout) -> list[Event]:
    """What an operator may do now."""
    events = [event for event in OPERATOR_EVENTS if (rollout.state, event) in TRANSITIONS]
    return [event for event in events if event is not Event.APPROVE or rollout.awaits]


def harm_threshold(metrics: int, share: float = 1.0) -> float:
    """The e-value from which a metric shows harm. share: of the level, what is spent here."""
    return metrics / (HARM_ALPHA * share)


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
        limits = harm_threshold(len(metrics), metric.rule.share), 1 / metric.rule.proof_alpha
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


def metrics_table(rollout: Rollout) -> Table:
    """What people ask for of both versions, with 95 % intervals; it decides nothing. Of the
    canary's rows, before them of those answered in the shadow."""
    columns = (
        Column("metric", "Metric"),
        Column("candidate", "Candidate", "number"),
        Column("candidate_range", "95 %"),
        Column("champion", "Champion", "number"),
        Column("champion_range", "95 %"),
        Column("rows", "Rows of the candidate", "count"),
    )
    found = (rollout.evidence.metrics if rollout.evidence else {}) or (
        rollout.shadow.metrics if rollout.shadow else {}
    )
    sides = {
        side: {(o["output"], o["label"], m): (*v, o["rows"])
               for o in found[side]["outputs"] for m, v in o["metrics"].items()}
        for side in ("candidate", "champion") if found
    }  # fmt: skip
    rows = []
    for output, label, name in sides.get("candidate", {}) | sides.get("champion", {}):
        row: dict[str, object] = {"metric": name if label is None else f"{name} ({label})"}
        for side, known in sides.items():
            value, low, high, count = known.get((output, label, name), (None, None, None, 0))
            row |= {side: value, f"{side}_range": f"{words.number(low)} – {words.number(high)}"}
            row |= {"rows": count} if side == "candidate" else {}
        rows.append(row)
    return Table("rollout_metrics", columns, rows, "No row of the candidate has a label yet.")


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
    harm_at = harm_threshold(metrics, metric.rule.share)
    harmed = metric.worse.best >= log(harm_at)
    verdict = "worse" if harmed else "proven" if metric.proven else "undecided"
    e_worse, e_proof = e_values([metric.worse.best, metric.proof.best])
    return {
        "metric": metric.rule.title,
        "role": "promotion" if metric.rule.decisive else "rollback only",
        "canary": metric.canary_sum / metric.canary_count if metric.canary_count else None,
        "canary_count": metric.canary_count,
        "stable": metric.stable_sum / metric.stable_count if metric.stable_count else None,
        "stable_count": metric.stable_count,
        "margin": metric.rule.margin,
        "e_worse": e_worse,
        "harm_at": harm_at,
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
