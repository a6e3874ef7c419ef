"""One incident: what is known, its history, and who was notified."""

from collections.abc import Mapping, Sequence
from typing import Any

from driftloop_console import words
from driftloop_console.page import Link
from driftloop_console.tables import Column, Table
from driftloop_console.views.fleet import incident_url, model_url
from driftloop_contracts.incident import Incident

Record = Mapping[str, Any]


def facts(incident: Incident) -> dict[str, Any]:
    hidden = incident.hidden_by
    return {
        "Model": Link(incident.model, model_url(incident.model)) if incident.model else None,
        "State": str(incident.state),
        "Urgency": str(incident.urgency),
        "Subject": incident.subject,
        "Opened": words.time(incident.at),
        "Updated": words.time(incident.updated_at),
        "Seen": f"{incident.count} times" if incident.count > 1 else "once",
        "Silenced until": words.time(incident.silenced_until) if incident.silenced_until else None,
        "Resolved": words.time(incident.resolved_at) if incident.resolved_at else None,
        "Answered by": incident.by,
        "Effect of": Link(f"incident {hidden}", incident_url(hidden)) if hidden else None,
    }


def evidence(incident: Incident) -> dict[str, Any]:
    return {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in incident.evidence.items()
    }


def history_table(events: Sequence[Record]) -> Table:
    """events: oldest first; shown newest first."""
    columns = (
        Column("at", "Time", "time"),
        Column("event", "Event"),
        Column("actor", "Who"),
        Column("reason", "Because", "sentence"),
    )
    return Table("history", columns, list(reversed(events)), "Nothing happened to it yet.")


def told_table(notices: Sequence[Record]) -> Table:
    columns = (
        Column("at", "Decided", "time"),
        Column("route", "Route"),
        Column("kind", "Kind"),
        Column("delivery", "Delivery", "state"),
    )
    rows = [{**one, "delivery": one.get("delivery") or "waiting"} for one in reversed(notices)]
    empty = "Nobody was notified: no route in the settings takes it (`alerts.routes`)."
    return Table("messages", columns, rows, empty)
