"""One model: its versions, error, alerts, capture account and decisions."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from driftloop_console.charts import Chart, Series, mean_interval
from driftloop_console.tables import Column, Table
from driftloop_console.views.fleet import (
    incident_url,
    model_url,
    retrain_url,
    rollout_url,
    version_url,
)
from driftloop_contracts.alert import Alert
from driftloop_contracts.durations import in_short
from driftloop_contracts.incident import Incident, IncidentState, Urgency
from driftloop_contracts.judgement import unexplained
from driftloop_contracts.model import Deployment
from driftloop_contracts.replica import LoadedVersions
from driftloop_contracts.retrain import Retrain
from driftloop_evaluation.confidence_sequence import confidence_sequence

Record = Mapping[str, Any]


def versions_table(
    deployment: Deployment, loaded: LoadedVersions, ledger: Sequence[Record]
) -> Table:
    split, name = deployment.split, deployment.model.name
    columns = (
        Column("version", "Version", "count", lambda row: version_url(name, row["version"])),
        Column("role", "Role"),
        Column("share", "Share of traffic", "share"),
        Column("held", "Held by replicas"),
        Column("served", "Rows served", "count"),
    )
    rows = []
    for served in sorted(deployment.versions, key=lambda v: -v.version):
        version = served.version
        role = {split.stable: "champion", split.canary: "challenger"}.get(version, "kept")
        shares = {split.stable: 1.0 - split.weight, split.canary: split.weight}
        failed = loaded.failed.get(version)
        rows.append(
            {
                "version": version,
                "role": role,
                "share": shares.get(version, 0.0),
                "held": "yes" if version in loaded.versions else failed or "no",
                "served": sum(e["served"] for e in ledger if e["version"] == version),
            }
        )
    return Table("versions", columns, rows, "No version is deployed.")


def windows_table(windows: Sequence[Record]) -> Table:
    """windows: newest first."""
    columns = (
        Column("at", "Ended", "time"),
        Column("kind", "Closed by"),
        Column("status", "Status", "state"),
        Column("rows", "Rows", "count"),
        Column("labelled", "Labelled", "count"),
        Column("error", "Error", "number"),
        Column("low", "95 % from", "number"),
        Column("high", "to", "number"),
        Column("expected", "Expected before labels", "number"),
        Column("expected_low", "95 % from", "number"),
        Column("expected_high", "to", "number"),
        Column("reference", "Reference", "number"),
        Column("reason", "Note", "sentence"),
    )
    rows = [
        {
            "at": window["ended_at"],
            "kind": window["kind"],
            "status": window["status"],
            "rows": window["rows"],
            "labelled": window["labelled"],
            "error": window.get("mean_loss"),
            "low": edges[0],
            "high": edges[1],
            "expected": window.get("estimated_loss"),
            "expected_low": window.get("estimated_low"),
            "expected_high": window.get("estimated_high"),
            "reference": window.get("performance", {}).get("baseline"),
            "reason": window.get("reason", ""),
        }
        for window in windows
        for edges in (_interval(window),)
    ]
    empty = "No window was judged in this time. Send requests, or choose a longer time."
    return Table("windows", columns, rows, empty)


def error_chart(
    windows: Sequence[Record], earlier: Sequence[Record] = (), ago: timedelta = timedelta()
) -> Chart | None:
    """The mean loss of each window with its interval, and what was expected of it before labels,
    against the reference; None without either. windows: newest first. earlier: those of so long
    ago, which are compared with them."""
    known = [w for w in reversed(windows) if _losses(w) != (None, None)]
    if not known:
        return None
    edges = [_interval(window) for window in known]
    shown = [window.get("performance", {}) for window in known]
    expected = tuple(window.get("estimated_loss") for window in known)
    x = tuple(_seconds(window["ended_at"]) for window in known)
    before = [(_seconds(w["ended_at"]) + ago.total_seconds(), w["mean_loss"])
              for w in reversed(earlier) if w.get("mean_loss") is not None]  # fmt: skip
    compared = [Series(f"{in_short(ago.total_seconds())} before", at_times(before, x))]
    return Chart(
        "Mean error of each window with its 95 % interval, and the reference",
        x,
        (
            *(compared if before else ()),
            Series("Error", tuple(window.get("mean_loss") for window in known)),
            *(
                [Series("Expected before labels", expected)]
                if any(e is not None for e in expected)
                else ()
            ),
            Series("95 % low", tuple(low for low, _ in edges), "low"),
            Series("95 % high", tuple(high for _, high in edges), "high"),
            Series("Reference", tuple(one.get("baseline") for one in shown), "limit"),
            Series("Ceiling", tuple(_ceiling(one) for one in shown), "limit"),
        ),
    )


def running_error_chart(windows: Sequence[Record]) -> Chart | None:
    """The mean loss of all labelled rows of the version so far, with its confidence sequence; None
    without labels. windows: newest first."""
    shown = [(w, w.get("performance", {})) for w in reversed(windows) if w["kind"] != "labels"]
    known = [(w, p) for w, p in shown if p.get("mean_loss") is not None and p.get("rows")]
    if not known:
        return None
    edges = [
        confidence_sequence(p["mean_loss"], p["rows"], p.get("dispersion", 1.0)) for _, p in known
    ]
    return Chart(
        "Error so far with its 95 % confidence sequence, and the reference",
        tuple(_seconds(window["ended_at"]) for window, _ in known),
        (
            Series("Error so far", tuple(p["mean_loss"] for _, p in known)),
            Series("95 % at all times, low", tuple(low for low, _ in edges), "low"),
            Series("95 % at all times, high", tuple(high for _, high in edges), "high"),
            Series("Reference", tuple(p.get("baseline") for _, p in known), "limit"),
        ),
    )


def _ceiling(shown: Record) -> float | None:
    """What is not called a rise: with a rhythm that was not seen yet, without that of the hour."""
    known = shown.get("ceiling")
    return None if known is None else known + shown.get("may_be_rhythm", 0.0)


def _losses(window: Record) -> tuple[float | None, float | None]:
    """Measured, and expected before labels."""
    return window.get("mean_loss"), window.get("estimated_loss")


def at_times(values: Sequence[tuple[float, float]], x: Sequence[float]) -> tuple[float | None, ...]:
    """The newest value at each time; None before the first. Both ascending."""
    times = [at for at, _ in values]
    places = (bisect_right(times, at) for at in x)
    return tuple(values[place - 1][1] if place else None for place in places)


def alerts_table(alerts: Sequence[Alert]) -> Table:
    columns = (
        Column("at", "Raised", "time"),
        Column(
            "model", "Model", href=lambda row: f"/models/{row['model']}" if row["model"] else None
        ),
        Column("kind", "Cause"),
        Column("severity", "Severity"),
        Column("state", "State", "state"),
        Column("message", "Message"),
        Column(
            "report", "Report", href=lambda row: row["report"] and f"/api/reports/{row['report']}"
        ),
    )
    rows = [
        {
            "at": alert.at.isoformat(),
            "model": alert.model,
            "kind": str(alert.kind),
            "severity": str(alert.severity),
            "state": str(alert.state),
            "message": alert.message,
            "report": alert.report.rpartition("/")[2] if alert.report else None,
        }
        for alert in alerts
    ]
    empty = "Nothing was found that needs you. Alerts appear here while they are open and after."
    return Table("alerts", columns, rows, empty)


def incidents_table(incidents: Sequence[Incident]) -> Table:
    """Those that are not resolved first, the most urgent of them at the top."""
    columns = (
        Column("at", "Opened", "time", lambda row: incident_url(row["id"])),
        Column("model", "Model", href=lambda row: row["model"] and model_url(row["model"])),
        Column("urgency", "Urgency", "state"),
        Column("cause", "Cause"),
        Column("state", "State", "state"),
        Column("happened", "What happened", "sentence"),
        Column("next", "What happens next", "sentence"),
        Column("updated_at", "Updated", "time"),
        Column("id", "Incident", href=lambda row: incident_url(row["id"])),
    )
    urgencies = list(Urgency)

    def need(incident: Incident) -> tuple[bool, int]:
        return incident.state is IncidentState.RESOLVED, urgencies.index(incident.urgency)

    rows = [
        {
            "id": incident.id,
            "at": incident.at.isoformat(),
            "model": incident.model,
            "urgency": str(incident.urgency),
            "cause": str(incident.cause),
            "state": str(incident.state),
            "happened": incident.happened,
            "next": incident.next,
            "updated_at": incident.updated_at.isoformat(),
        }
        for incident in sorted(incidents, key=need)
    ]
    empty = "No incident in this time. `driftloop alerts test` shows whether messages reach you."
    return Table("incidents", columns, rows, empty)


def capture_table(ledger: Sequence[Record]) -> Table:
    """served = acked + spooled + dropped + unexplained, for each version and replica."""
    columns = (
        Column("version", "Version", "count"),
        Column("replica", "Replica"),
        Column("served", "Served", "count"),
        Column("acked", "Acked", "count"),
        Column("spooled", "Spooled", "count"),
        Column("dropped", "Dropped", "count"),
        Column("reasons", "Reasons"),
        Column("unexplained", "Unexplained", "count"),
    )
    rows = [
        {
            "version": entry["version"],
            "replica": entry["replica"],
            "served": entry["served"],
            "acked": entry["acked"],
            "spooled": entry["spooled"],
            "dropped": sum(entry["dropped"].values()),
            "reasons": ", ".join(f"{k}: {v:,}" for k, v in sorted(entry["dropped"].items())),
            "unexplained": unexplained(entry),
        }
        for entry in sorted(ledger, key=lambda e: (-e["version"], e["replica"]))
    ]
    return Table("capture", columns, rows, "No replica served a row yet. Send requests.")


def capture_account(ledger: Sequence[Record]) -> str:
    """The account in one sentence."""
    served, acked, spooled = (
        sum(e[name] for e in ledger) for name in ("served", "acked", "spooled")
    )
    dropped = sum(sum(entry["dropped"].values()) for entry in ledger)
    missing = sum(unexplained(entry) for entry in ledger)
    sentence = (
        f"{served:,} rows served = {acked:,} acked + {spooled:,} spooled + {dropped:,} dropped"
    )
    return f"{sentence} + {missing:,} unexplained." if missing else f"{sentence}."


def decisions_table(decisions: Sequence[Record]) -> Table:
    columns = (
        Column("at", "Time", "time"),
        Column("model", "Model", href=lambda row: f"/models/{row['model']}"),
        Column("verdict", "Verdict", "state"),
        Column("trigger", "Trigger"),
        Column("sentence", "Why"),
    )
    rows = [
        {
            "at": decision["at"],
            "model": decision["model"],
            "verdict": decision["verdict"],
            "trigger": decision["trigger"],
            "sentence": decision_sentence(decision),
        }
        for decision in decisions
    ]
    empty = "No decision yet: driftloop writes one when a retrain could have started."
    return Table("decisions", columns, rows, empty)


def decision_sentence(decision: Record) -> str:
    did = "Retrains" if decision["verdict"] == "retrain" else "Did not retrain"
    return f"{did} because {decision['reason']}."


def rollouts_table(rollouts: Sequence[Record]) -> Table:
    columns = (
        Column("at", "Requested", "time"),
        Column("id", "Rollout", href=lambda row: rollout_url(row["id"])),
        Column("candidate", "Candidate", "count"),
        Column("state", "State", "state"),
        Column("weight", "Share", "share"),
        Column("verdict", "Verdict"),
        Column("reason", "Reason", "sentence"),
    )
    rows = [{**rollout, "candidate": rollout["candidate"]["version"]} for rollout in rollouts]
    empty = "No rollout yet: one starts when a candidate passes the gate, or a version is deployed."
    return Table("rollouts", columns, rows, empty)


def retrains_table(retrains: Sequence[Retrain]) -> Table:
    columns = (
        Column("at", "Requested", "time"),
        Column("id", "Retrain", href=lambda row: retrain_url(row["id"])),
        Column("trigger", "Trigger"),
        Column("state", "State", "state"),
        Column("version", "Version", "count"),
        Column("reason", "Reason", "sentence"),
    )
    rows = [
        {
            "at": retrain.at.isoformat(),
            "id": retrain.id,
            "trigger": retrain.trigger,
            "state": str(retrain.state),
            "version": retrain.version,
            "reason": retrain.reason,
        }
        for retrain in retrains
    ]
    empty = "No retrain yet. `driftloop retrain NAME` starts one."
    return Table("retrains", columns, rows, empty)


def _interval(window: Record) -> tuple[float | None, float | None]:
    mean, rows = window.get("mean_loss"), window.get("labelled", 0)
    return (None, None) if mean is None or not rows else mean_interval(mean, rows)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
