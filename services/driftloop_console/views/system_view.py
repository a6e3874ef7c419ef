"""Roles, replicas, disk, lag and ports."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from driftloop_console.tables import Column, Table
from driftloop_contracts.health import Degraded
from driftloop_contracts.replica import ReplicaStatuses
from driftloop_settings import Settings
from driftloop_settings.run_state import RunState

Record = Mapping[str, Any]


def state(running: RunState | None, degraded: Sequence[Degraded]) -> dict[str, str]:
    if running is None:
        answers = "The roles run apart from each other: no supervisor says how they are."
    elif running.ready:
        answers = "Predictions are answered."
    else:
        answers = "Predictions are not answered yet."
    failing = f"{len(degraded)} cycles keep failing." if degraded else "All roles do their work."
    return {"Serving": answers, "Roles": failing}


def roles_table(running: RunState | None, degraded: Sequence[Degraded]) -> Table:
    columns = (
        Column("role", "Role"),
        Column("state", "State", "state"),
        Column("pid", "Process", "text"),
        Column("restarts", "Restarts", "count"),
        Column("deaths", "Deaths in a row", "count"),
    )
    failing = {found.role.partition("/")[0] for found in degraded}
    rows = [
        {
            "role": role.name,
            "state": "degraded" if role.state == "running" and role.name in failing else role.state,
            "pid": role.pid,
            "restarts": role.restarts,
            "deaths": role.deaths,
        }
        for role in (running.roles if running else ())
    ]
    empty = "No supervisor runs here: `driftloop up` starts all roles on one machine."
    return Table("roles", columns, rows, empty)


def replicas_table(statuses: ReplicaStatuses) -> Table:
    columns = (
        Column("name", "Replica"),
        Column("state", "State", "state"),
        Column("pid", "Process", "text"),
        Column("restarts", "Restarts", "count"),
    )
    rows = [status.to_dict() for status in statuses.replicas]
    return Table("replicas", columns, rows, "No replica has reported: see logs/serving.log.")


def degraded_table(degraded: Sequence[Degraded]) -> Table:
    columns = (
        Column("role", "Role"),
        Column("subject", "Model"),
        Column("since", "Since", "time"),
        Column("reason", "Reason", "sentence"),
    )
    rows = [found.to_dict() for found in degraded]
    return Table("failing", columns, rows, "No cycle fails.")


def endpoints_table(running: RunState | None, settings: Settings) -> Table:
    columns = (Column("name", "Port"), Column("address", "Address"))
    control = f"http://{settings.control.host}:{settings.control.port}"
    found = dict(running.endpoints) if running else {"control": control}
    rows = [{"name": name, "address": address} for name, address in found.items()]
    return Table("ports", columns, rows, "No port is known.")


def lag_table(ledger: Sequence[Record], monitors: Mapping[str, Record]) -> Table:
    """spooled: rows of a model not yet acknowledged by Kafka; windowed, tested: up to where the
    monitor judged its rows and its labels."""
    columns = (
        Column("model", "Model", href=lambda row: f"/models/{row['model']}"),
        Column("spooled", "Rows in spools", "count"),
        Column("windowed", "Windows judged up to", "time"),
        Column("tested", "Labels judged up to", "time"),
    )
    spooled: dict[str, int] = {}
    for entry in ledger:
        spooled[entry["model"]] = spooled.get(entry["model"], 0) + int(entry["spooled"])
    rows = [
        {
            "model": model,
            "spooled": spooled.get(model, 0),
            "windowed": _at(monitors.get(model, {}), "windowed"),
            "tested": _at(monitors.get(model, {}), "tested"),
        }
        for model in sorted({*spooled, *monitors})
    ]
    rows.sort(key=lambda row: -int(row["spooled"] or 0))
    return Table("lag", columns, rows, "No model has traffic.")


def _at(monitor: Record, name: str) -> str | None:
    position = monitor.get(name)
    return datetime.fromisoformat(position["at"]).isoformat() if position else None


def disk(usage: tuple[int, int] | None) -> dict[str, Any]:
    """usage: bytes, free and all."""
    if usage is None:
        return {}
    free, total = usage
    of = f"{free / 1e9:,.0f} of {total / 1e9:,.0f} GB"
    return {"Free, where the state directory is": of}
