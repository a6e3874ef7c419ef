"""Pages over all models: the fleet, incidents, decisions, settings and the system."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from driftloop_console.context import ConsoleContext
from driftloop_console.page import Page, Section, facts_section, table_section
from driftloop_console.time_range import time_range
from driftloop_console.views import audit_view, incident_page, model_page, system_view
from driftloop_console.views.fleet import fleet_table, summary
from driftloop_console.views.settings_table import settings_table
from driftloop_contracts.alert import Alert
from driftloop_contracts.incident import Incident

Params = Mapping[str, str]
MOST_ROWS = 1_000


def fleet(context: ConsoleContext, _: Params, query: Params) -> Page:
    models = context.fleet.all()
    counts = Section("summary", "", "summary.html", {"counts": summary(models)})
    return Page("Fleet", "Fleet", (counts, table_section("Models", fleet_table(models), query)))


def incidents(context: ConsoleContext, _: Params, query: Params) -> Page:
    asked = time_range(query, context.clock())
    ends = asked.since, asked.until
    found = context.store.between("incidents", None, *ends, MOST_ROWS)
    alerts = context.store.between("alerts", None, *ends, MOST_ROWS)
    sections = (
        table_section(
            "Incidents",
            model_page.incidents_table([Incident.from_dict(record) for record in found]),
            query,
        ),
        table_section(
            "Alerts", model_page.alerts_table([Alert.from_dict(record) for record in alerts]), query
        ),
    )
    return Page("Incidents", "Incidents", sections, ranged=True)


def incident(context: ConsoleContext, params: Params, query: Params) -> Page:
    store = context.store
    found = store.incident(params["id"])
    sections = (
        Section("message", "", "prose.html", {
            "sentences": [found.happened, found.next], "empty": "",
        }),
        Section("actions", "Answer it", "incident_actions.html", {
            "incident": found, "read_only": context.settings.control.read_only,
        }),
        facts_section("facts", "What is known", incident_page.facts(found)),
        facts_section("evidence", "Evidence", incident_page.evidence(found)),
        table_section(
            "History", incident_page.history_table(store.incident_events(found.id)), query
        ),
        table_section("Messages", incident_page.told_table(store.notices_of(found.id)), query),
    )  # fmt: skip
    of_model = f" of {found.model}" if found.model else ""
    title = f"Incident: {found.cause.replace('_', ' ')}{of_model}"
    return Page(title, "Incidents", sections, frozenset({found.model}))


def decisions(context: ConsoleContext, _: Params, query: Params) -> Page:
    asked = time_range(query, context.clock())
    found = context.store.between("decisions", None, asked.since, asked.until, MOST_ROWS)
    table = model_page.decisions_table(found)
    note = "Each time a retrain could have started: whether it did, and why."
    section = table_section("Decisions", table, query, note)
    return Page("Decisions", "Decisions", (section,), ranged=True)


def audit(context: ConsoleContext, _: Params, query: Params) -> Page:
    asked = time_range(query, context.clock())
    table = audit_view.audit_table(context.store.audits(MOST_ROWS, asked.since, asked.until))
    note = "Deployments, retrains and what operators did, newest first."
    return Page("Audit", "Audit", (table_section("Audit", table, query, note),), ranged=True)


def settings(context: ConsoleContext, _: Params, query: Params) -> Page:
    table = settings_table(context.settings, context.store.deployments())
    note = "What is in force, and from where. A model's `policy` holds for that model alone."
    return Page(
        "Settings", "Settings", (table_section("Settings", table, query, note),), frozenset()
    )


def system(context: ConsoleContext, _: Params, query: Params) -> Page:
    running, store = context.run_state(), context.store
    degraded, statuses = store.degraded(), store.replica_statuses()
    return Page(
        "System",
        "System",
        (
            facts_section("state", "", system_view.state(running, degraded)),
            facts_section("disk", "Disk", system_view.disk(_usage(context.settings.state_dir))),
            table_section("Roles", system_view.roles_table(running, degraded), query),
            table_section("Replicas", system_view.replicas_table(statuses), query),
            table_section("Failing cycles", system_view.degraded_table(degraded), query),
            table_section("Ports", system_view.endpoints_table(running, context.settings), query),
            table_section(
                "Lag", system_view.lag_table(store.ledger(), store.monitor_states()), query
            ),
        ),
    )


def _usage(folder: Path) -> tuple[int, int] | None:
    """Bytes, free and all, of the disk with the state directory; None if it cannot be read."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        return None
    return found.free, found.total
