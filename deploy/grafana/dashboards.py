"""The Grafana dashboards of this folder: `python deploy/grafana/dashboards.py` writes them anew,
with `--check` it only compares. Import one in Grafana and choose the Prometheus that scrapes
`/metrics` of the control port and of the serving port.

Pure. A test runs every query against a Prometheus of a running stack.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from generated_files import keep

FOLDER = Path(__file__).parent
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
SOURCE = {"type": "prometheus", "uid": "${source}"}
OF_MODEL = 'model=~"$model"'
RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """unit: Grafana's name of it; note: what the panel shows, for those who ask."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """by_model: it has a variable `model`, with all models or one."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    by_model: bool = False


def _model(name: str, legend: str = "{{model}}") -> Query:
    return Query(f"driftloop_model_{name}{{{OF_MODEL}}}", legend)


def _top(name: str) -> Query:
    """Of hundreds of models those that matter."""
    return Query(f"topk(10, driftloop_model_{name})", "{{model}}")


def _rate(name: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate(driftloop_{name}{{{where}}}[{RATE}]))"


def _quantile(share: str, name: str, by: str, where: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{name}_bucket', f'le, {by}', where)})"


FLEET = Dashboard(
    "fleet",
    "driftloop: all models",
    (
        Panel("Models", (Query("driftloop_models"),), kind="stat"),
        Panel(
            "Incidents open",
            (Query("sum by (severity) (driftloop_incidents_open)", "{{severity}}"),),
            kind="stat",
            note="page: wake somebody; ticket: in working hours; digest: worth knowing.",
        ),
        Panel(
            "Alerts on a risen error in a month",
            (
                Query("driftloop_alerts_last_month", "raised, justified or not"),
                Query("driftloop_alerts_promised_per_month", "false ones allowed"),
            ),
            kind="stat",
            note="More alerts than the false ones allowed mean that errors rose, or that the "
            "promise does not hold: look at what became of them.",
        ),
        Panel("Highest errors", (_top("error"),), note="Mean loss in [0, 1] of labelled rows."),
        Panel(
            "Largest rise of the error",
            (
                Query(
                    "topk(10, driftloop_model_error - driftloop_model_reference_error)", "{{model}}"
                ),
            ),
            note="Against the reference.",
        ),
        Panel("Largest drift", (_top("drift_effect"),), note="Effect in the unit of the check."),
        Panel("Longest label lag", (_top("label_lag_seconds"),), "s"),
        Panel(
            "Age of the newest window",
            (
                Query(
                    "topk(10, time() - driftloop_model_window_end_timestamp_seconds)", "{{model}}"
                ),
            ),
            "s",
        ),
        Panel(
            "Windows that could not be judged",
            (Query("sum(1 - driftloop_model_window_judged)", "models"),),
            note="Models whose newest window is inconclusive; their page says why.",
        ),
        Panel(
            "Lag on the way to the lake",
            (
                Query("sum(driftloop_model_spooled_rows)", "rows in spools"),
                Query("driftloop_archiver_lag_records", "records in Kafka: {{topic}}"),
            ),
        ),
        Panel(
            "Rows answered and not captured",
            (_top("gap_rows"),),
            note="Windows with rows missing for an unknown reason are inconclusive.",
        ),
        Panel("Retrains", (Query("driftloop_retrains", "{{state}}"),)),
        Panel("Rollouts", (Query("driftloop_rollouts", "{{state}}"),)),
        Panel("Roles that keep failing", (Query("driftloop_role_degraded", "{{role}}"),)),
        Panel(
            "Time since a role was heard of",
            (Query("time() - driftloop_role_heartbeat_timestamp_seconds", "{{role}}"),),
            "s",
        ),
        Panel("Messages that wait", (Query("driftloop_notices_waiting", "notices"),)),
    ),
)  # fmt: skip
MODEL = Dashboard(
    "model",
    "driftloop: a model",
    (
        Panel(
            "Error",
            (
                _model("error"),
                _model("estimated_error", "{{model}}, expected before labels"),
                _model("reference_error", "{{model}}, reference"),
            ),
            note="Mean loss in [0, 1] of rows judged by their labels, expected of the newest "
            "window from the confidence of its answers, and on the reference.",
        ),
        Panel("Drift", (_model("drift_effect"),), note="Largest effect in the newest window."),
        Panel(
            "Columns",
            (
                _model("drifted_columns", "{{model}}: moved"),
                _model("broken_columns", "{{model}}: broken"),
            ),
        ),
        Panel("Label lag", (_model("label_lag_seconds"),), "s"),
        Panel(
            "Capture",
            (
                _model("spooled_rows", "{{model}}: in spools"),
                _model("gap_rows", "{{model}}: not captured"),
            ),
        ),
        Panel(
            "Incidents open",
            (Query(f"driftloop_incidents_open{{{OF_MODEL}}}", "{{model}}: {{severity}}"),),
        ),
        Panel("Share of the candidate", (_model("rollout_share"),), "percentunit"),
        Panel(
            "Retrain under way", (_model("retraining"),),
        ),
        Panel(
            "Evidence of the rollout",
            (_model("rollout_log_e", "{{model}}: {{metric}}, {{claim}}"),),
            note="Logarithms of e-values. `worse` above log(metrics/0.01) rolls back; `proof` of "
            "all metrics above its threshold promotes.",
        ),
        Panel(
            "Requests",
            (Query(_rate("requests_total", "model, version, arm", OF_MODEL),
                   "{{model}} {{version}} {{arm}}"),),
            "reqps",
        ),
        Panel(
            "Latency",
            tuple(
                Query(_quantile(q, "request_seconds", "model", OF_MODEL), f"{{{{model}}}} {label}")
                for q, label in (("0.5", "p50"), ("0.99", "p99"))
            ),
            "s",
            note="All versions together; a rollout compares those of its arms by itself.",
        ),
        Panel(
            "Requests answered with an error",
            (
                Query(_rate("model_failures_total", "model", OF_MODEL)),
                Query(_rate("request_failures_total", "reason"), "all models: {{reason}}"),
            ),
            "reqps",
            note="Reasons are counted for all models together: some fail before a model is known.",
        ),
    ),
    by_model=True,
)  # fmt: skip
SERVING = Dashboard(
    "serving",
    "driftloop: serving",
    (
        Panel("Requests", (Query(_rate("requests_total", "replica"), "{{replica}}"),), "reqps"),
        Panel("Rows", (Query(_rate("rows_total", "model"), "{{model}}"),), "rowsps"),
        Panel(
            "Latency",
            (
                Query(_quantile("0.5", "request_seconds", "replica"), "{{replica}} p50"),
                Query(_quantile("0.99", "request_seconds", "replica"), "{{replica}} p99"),
            ),
            "s",
        ),
        Panel("Requests in flight", (Query("driftloop_requests_in_flight", "{{replica}}"),)),
        Panel(
            "Busy", (Query(_rate("busy_seconds_total", "replica"), "{{replica}}"),), "percentunit",
            note="Share of the time that the event loop worked on requests.",
        ),
        Panel(
            "Requests in a run",
            (
                Query(
                    f"{_rate('requests_total', 'model')} / {_rate('runs_total', 'model')}",
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            "Where the time goes",
            tuple(
                Query(_rate(f"{part}_seconds_total", "replica"), f"{{{{replica}}}} {part}")
                for part in ("queue", "input", "infer", "output")
            ),
            "percentunit",
        ),
        Panel(
            "Capture",
            (
                Query(_rate("capture_rows_total", "model"), "{{model}}: served"),
                Query(_rate("capture_acked_rows_total", "model"), "{{model}}: in Kafka"),
            ),
            "rowsps",
        ),
        Panel(
            "Rows in spools",
            (Query("sum by (model) (driftloop_capture_spooled_rows)", "{{model}}"),),
        ),
    ),
)  # fmt: skip
DASHBOARDS = (FLEET, MODEL, SERVING)


def rendered(dashboard: Dashboard) -> dict[str, Any]:
    """In Grafana's JSON model."""
    return {
        "uid": f"driftloop-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["driftloop"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": _variables(dashboard)},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    ]
    if dashboard.by_model:
        query = "label_values(driftloop_model_gap_rows, model)"
        found.append(
            {
                "name": "model",
                "label": "Model",
                "type": "query",
                "datasource": SOURCE,
                "definition": query,
                "query": {"query": query, "refId": "models"},
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": False,
            }
        )
    return found


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    place = {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT}
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.note,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def files() -> dict[Path, str]:
    return {
        FOLDER / f"{dashboard.name}.json": json.dumps(rendered(dashboard), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    keep(files(), sys.argv[1:])
