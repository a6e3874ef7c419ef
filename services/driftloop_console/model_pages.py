"""The pages of one model and of one of its versions."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from driftloop_console.charts import Chart
from driftloop_console.context import ConsoleContext
from driftloop_console.model_records import one_model, rules
from driftloop_console.page import Link, Page, Section, facts_section, table_section
from driftloop_console.time_range import compared, time_range
from driftloop_console.views import drift_page, live_metrics, model_page, slices
from driftloop_console.views.fleet import model_url
from driftloop_console.views.measured import measured
from driftloop_contracts.alert import Alert
from driftloop_contracts.errors import NotFound
from driftloop_contracts.incident import Incident
from driftloop_contracts.model import Deployment, ModelSpec

Params = Mapping[str, str]
Record = Mapping[str, Any]
WINDOWS, RECORDS, FINDINGS = 300, 100, 2_000
COMPARED = ("1d", "7d", "28d")


def model(context: ConsoleContext, params: Params, query: Params) -> Page:
    store, name = context.store, params["model"]
    deployment = store.require_deployment(name)
    asked = time_range(query, context.clock())
    ends = asked.since, asked.until
    records, found = one_model(context.settings, store, deployment)
    windows = store.between("windows", name, *ends, WINDOWS)
    sketches = store.sketches(drift_page.shown_windows(windows))
    stable = deployment.split.stable
    references = store.reference_sketches(name, {stable, *(one["version"] for one in sketches)})
    normal = references.get(stable, {}).get("measures", {})
    alerts = [Alert.from_dict(r) for r in store.between("alerts", name, *ends, RECORDS)]
    incidents = [Incident.from_dict(r) for r in store.between("incidents", name, *ends, RECORDS)]
    loaded = store.loaded_versions(name)
    lag_s = records.label_lag_s
    links = {"Rows": Link("Query them in SQL", f"/data?{urlencode({'model': name})}")}
    if deployment.model.kind.has_conversations:
        links["Conversations"] = Link("Ratings and corrections", f"{model_url(name)}/conversations")
    sections = (
        Section("condition", "", "condition.html", {"condition": found}),
        facts_section("links", "", links),
        table_section(
            "Versions", model_page.versions_table(deployment, loaded, records.ledger), query
        ),
        _error(context, name, windows, query),
        facts_section("labels", "Labels", slices.label_facts(records.monitor, windows, lag_s)),
        table_section(
            "Slices", slices.slices_table(records.monitor, normal), query
        ),
        _drift(context, deployment, windows, drift_page.sketch_charts(sketches, references), query),
        table_section("Windows", model_page.windows_table(windows), query),
        *_metrics(records.monitor, deployment.model, query),
        table_section("Incidents", model_page.incidents_table(incidents), query),
        table_section("Alerts", model_page.alerts_table(alerts), query),
        table_section(
            "Capture",
            model_page.capture_table(records.ledger),
            query,
            model_page.capture_account(records.ledger),
        ),
        table_section(
            "Decisions",
            model_page.decisions_table(store.between("decisions", name, *ends, RECORDS)),
            query,
        ),
        table_section(
            "Rollouts",
            model_page.rollouts_table(store.between("rollouts", name, *ends, RECORDS)),
            query,
        ),
        table_section(
            "Retrains", model_page.retrains_table(store.retrains(name, RECORDS)), query
        ),
    )  # fmt: skip
    return Page(name, "Fleet", sections, frozenset({name}), ranged=True)


def _error(
    context: ConsoleContext, model: str, windows: Sequence[Record], query: Params
) -> Section:
    """windows: newest first."""
    ago, earlier = compared(query), []
    if ago is not None and windows:
        newest, oldest = (datetime.fromisoformat(w["ended_at"]) for w in (windows[0], windows[-1]))
        ends = oldest - ago, newest - ago + timedelta(microseconds=1)
        earlier = context.store.between("windows", model, *ends, WINDOWS)
    found = (
        model_page.error_chart(windows, earlier, ago or timedelta()),
        model_page.running_error_chart(windows),
    )
    return Section("error", "Error", "error_chart.html", {
        "charts": [chart for chart in found if chart],
        "empty": "No labels arrived in this time: send them with `POST /feedback`. Of a "
        "classification with probabilities, the error is expected before them.",
        "lengths": COMPARED, "chosen": query.get("compare", ""),
    })  # fmt: skip


def _drift(
    context: ConsoleContext,
    deployment: Deployment,
    windows: Sequence[Record],
    sketched: list[Chart],
    query: Params,
) -> Section:
    """sketched: from the sketches of windows; of a time from which none are kept, the findings
    tell."""
    charts = sketched
    if not charts and windows:
        asked = time_range(query, context.clock())
        limit = rules(context.settings, deployment.model).monitoring.drift_effect
        ends = asked.since, asked.until
        findings = context.store.between("findings", deployment.model.name, *ends, FINDINGS)
        charts = drift_page.drift_charts(findings, windows, limit)
    empty = "No column moved away from the reference in this time."
    data = {"charts": charts, "empty": empty, "sketched": bool(sketched)}
    return Section("drift", "Drift by column", "drift.html", data)


def _metrics(monitor: Mapping[str, Any], spec: ModelSpec, query: Params) -> tuple[Section, ...]:
    confusion = live_metrics.confusion_table(monitor)
    return (
        table_section(
            "Metrics of labelled rows",
            live_metrics.metrics_table(monitor),
            query,
            live_metrics.metrics_note(monitor, spec),
        ),
        *([table_section("Labels and answers", confusion, query)] if confusion else ()),
    )


def version(context: ConsoleContext, params: Params, query: Params) -> Page:
    store, name, number = context.store, params["model"], int(params["version"])
    deployment = store.require_deployment(name)
    served = deployment.version(number)
    of_version = [r for r in store.retrains(name, 1_000) if r.version == number]
    rollouts = [r for r in store.rollouts(name, 1_000) if r["candidate"]["version"] == number]
    if served is None and not of_version and not rollouts:
        raise NotFound(f"model {name!r} has no version {number}; its page lists those it has")
    ledger = [entry for entry in store.ledger(name) if entry["version"] == number]
    split = deployment.split
    role = {split.stable: "champion", split.canary: "challenger"}.get(number)
    facts = {
        "Model": Link(name, model_url(name)),
        "Role": role or ("kept, so that a rollback is quick" if served else "not served any more"),
        "Files": served.path if served else None,
        "Adapter of version": served.base if served else None,
        "Inputs": ", ".join(f"{t.name} ({t.datatype})" for t in served.signature.accepted)
        if served
        else None,
        "Outputs": ", ".join(f"{t.name} ({t.datatype})" for t in served.signature.outputs)
        if served
        else None,
        "Rebuild it with": f"driftloop reproduce {name} {number}" if of_version else None,
    }
    metrics = of_version[0].metrics if of_version else {}
    sections = (
        facts_section("facts", "", facts),
        facts_section("metrics", "Measured before it was registered", measured(metrics)),
        table_section(
            "Capture", model_page.capture_table(ledger), query, model_page.capture_account(ledger)
        ),
        table_section("Retrains", model_page.retrains_table(of_version), query),
        table_section("Rollouts", model_page.rollouts_table(rollouts), query),
    )
    return Page(f"{name}, version {number}", "Fleet", sections, frozenset({name}))
