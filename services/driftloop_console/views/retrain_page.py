"""A retrain: why, how far, what the gate said, and where it leads."""

from collections.abc import Mapping, Sequence
from typing import Any

from driftloop_console import words
from driftloop_console.page import Link
from driftloop_console.tables import Column, Table
from driftloop_console.views.fleet import model_url, retrain_url, rollout_url, version_url
from driftloop_contracts.retrain import Retrain

Record = Mapping[str, Any]


def attempts_table(attempts: Sequence[Retrain]) -> Table:
    """One that failed is tried again by a record of its own."""
    columns = (
        Column("attempt", "Attempt", "count", lambda row: retrain_url(row["id"])),
        Column("state", "State", "state"),
        Column("at", "Requested", "time"),
        Column("ended_at", "Ended", "time"),
        Column("why", "Gave no version because", "sentence"),
    )
    rows = [
        {
            "id": each.id,
            "attempt": each.attempt,
            "state": str(each.state),
            "at": each.at,
            "ended_at": each.ended_at,
            "why": "; ".join(each.reasons),
        }
        for each in attempts
    ]
    return Table("attempts", columns, rows, "There was no attempt.")


def facts(retrain: Retrain, decision: Record | None) -> dict[str, Any]:
    data = retrain.data
    return {
        "Model": Link(retrain.model, model_url(retrain.model)),
        "State": str(retrain.state),
        "Trigger": retrain.trigger,
        "Reason": retrain.reason,
        "Champion to beat": retrain.champion,
        "Error is higher since": words.time(retrain.change_at) if retrain.change_at else None,
        "Requested": words.time(retrain.at),
        "Started": words.time(retrain.started_at) if retrain.started_at else None,
        "Ended": words.time(retrain.ended_at) if retrain.ended_at else None,
        "Progress": _progress(retrain),
        "Waiting for": retrain.waiting_for,
        "Gave no version because": "; ".join(retrain.reasons),
        "Error": retrain.error.strip().splitlines()[-1] if retrain.error else None,
        "Gate overridden": "yes, by an operator" if retrain.override_gate else None,
        "Decision": decision["reason"] if decision else None,
        "Data": f"predictions@{data.predictions}, labels@{data.labels}, received up to "
        f"{words.time(data.as_of)}"
        if data
        else None,
    }


def _progress(retrain: Retrain) -> str | None:
    progress = retrain.progress
    if progress is None or not retrain.active:
        return None
    return f"{words.share(progress.fraction)}: {progress.message}"


def lineage(retrain: Retrain) -> dict[str, Any]:
    """Where its version went."""
    result, version = retrain.result or {}, retrain.version
    if version is None:
        return {}
    rollout, model = result.get("rollout"), retrain.model
    return {
        "Version": Link(str(version), version_url(model, version)),
        "Made from": f"{result.get('data', '')}, {words.count(result.get('trained_rows'))} rows",
        "Recipe": result.get("family"),
        "Rollout": Link(rollout, rollout_url(rollout)) if isinstance(rollout, str) else None,
        "Lineage": f"driftloop lineage {model} {version}",
        "Write its report": f"driftloop report {model} {version}",
        "Rebuild it with": f"driftloop reproduce {model} {version}",
    }


def data_checks(retrain: Retrain) -> dict[str, Any]:
    """What was wrong with the rows; {} if they were not checked."""
    checks: Record = (retrain.result or {}).get("data_checks") or {}
    suspected: Record = checks.get("suspected_labels") or {}
    return {
        **{
            f"Left out: {reason}": words.count(rows)
            for reason, rows in checks.get("left_out", {}).items()
        },
        **({"Repeat an earlier row": words.count(checks["repeated"])} if checks else {}),
        **(
            {"Labels that are probably wrong": f"{suspected['suspected']:,} of "
             f"{suspected['rows']:,} looked at"}
            if suspected
            else {}
        ),
        **({"Warnings": "; ".join(checks["warnings"])} if checks.get("warnings") else {}),
    }  # fmt: skip


def trials_table(retrain: Retrain) -> Table:
    """What was trained and how it did on the validation rows, the best first."""
    columns = (
        Column("family", "Recipe"),
        Column("parameters", "Parameters", "sentence"),
        Column("span", "Rows used"),
        Column("rounds", "Rounds", "count"),
        Column("seconds", "Took", "seconds"),
        Column("mean_loss", "Loss", "number"),
        Column("over_champion", "Better than the champion by", "number"),
        Column("over_champion_low", "95 % from", "number"),
        Column("over_champion_high", "to", "number"),
    )
    trials: Sequence[Record] = (retrain.result or {}).get("trials", ())
    rows = sorted(trials, key=lambda one: one["mean_loss"])
    return Table("trials", columns, rows, "No candidate has been trained to its end.")


def gate_table(retrain: Retrain) -> Table:
    columns = (
        Column("name", "Check"),
        Column("passed", "Passed"),
        Column("rows", "Rows", "count"),
        Column("champion", "Champion", "number"),
        Column("candidate", "Candidate", "number"),
        Column("improvement", "Improvement", "number"),
        Column("low", "95 % from", "number"),
        Column("high", "to", "number"),
        Column("p_worse", "p if it were as good", "number"),
        Column("reason", "Reason", "sentence"),
    )
    checks = (retrain.result or {}).get("gate", {}).get("checks", ())
    rows = [{**check, "passed": "yes" if check["passed"] else "no"} for check in checks]
    return Table("gate", columns, rows, "The gate has not judged a candidate.")


def evidence(decision: Record | None) -> dict[str, Any]:
    """What the trigger saw."""
    if decision is None:
        return {}
    return {
        name.replace("_", " "): _in_words(name, value)
        for name, value in decision.get("evidence", {}).items()
        if value not in (None, [], "")
    }


def _in_words(name: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return words.count(value)
        case float():
            return words.number(value)
        case list():
            return ", ".join(map(str, value))
    return words.time(value) if name.endswith(("_at", "_due")) else str(value)
