"""The Prometheus alert rules of this folder: `python deploy/prometheus/alert_rules.py` writes
`alerts.yml` anew, with `--check` it only compares.

They are for those who have a Prometheus and no route of driftloop's own (`alerts.routes`), and for
what driftloop cannot say of itself: that nothing answers. Pure.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from generated_files import keep

FILE = Path(__file__).parent / "alerts.yml"


@dataclass(frozen=True, slots=True)
class Rule:
    """name: in CamelCase; expr: what is compared, so that the alert fires where it holds; lasting:
    how long it must hold."""

    name: str
    expr: str
    lasting: str
    severity: Literal["page", "ticket"]
    summary: str
    what_to_do: str


RULES = (
    Rule(
        "DriftloopAway", 'up{job="driftloop"} < 1', "2m", "page",
        "{{ $labels.instance }} of driftloop does not answer.",
        "`driftloop status` and `driftloop doctor` on that machine say why.",
    ),
    Rule(
        "DriftloopIncidentPage", 'sum by (model) (driftloop_incidents_open{severity="page"}) > 0',
        "1m", "page", "An incident of {{ $labels.model }} needs somebody now.",
        "The console's page Incidents has its evidence and what happens next.",
    ),
    Rule(
        "DriftloopIncidentTicket",
        'sum by (model) (driftloop_incidents_open{severity="ticket"}) > 0', "15m", "ticket",
        "An incident of {{ $labels.model }} waits for somebody.",
        "The console's page Incidents has its evidence and what happens next.",
    ),
    Rule(
        "DriftloopRoleFails", "driftloop_role_degraded > 0", "5m", "page",
        "The cycles of the role {{ $labels.role }} keep failing.",
        "`driftloop status` names the reason; `driftloop logs ROLE` has the traceback.",
    ),
    Rule(
        "DriftloopRoleSilent", "time() - driftloop_role_heartbeat_timestamp_seconds > 900", "5m",
        "page", "The role {{ $labels.role }} was not heard of for a quarter of an hour.",
        "It hangs or is away: see its log; ending its process has it started anew.",
    ),
    Rule(
        "DriftloopArchiverBehind", "driftloop_archiver_lag_records > 100000", "15m", "ticket",
        "The lake is behind {{ $labels.topic }} by {{ $value }} records.",
        "Start more archivers, up to the number of partitions, or see logs/archiver.log.",
    ),
    Rule(
        "DriftloopShipperBehind", "sum(driftloop_model_spooled_rows) > 1000000", "15m", "ticket",
        "{{ $value }} rows wait to be sent to Kafka.",
        "Make Kafka reachable before the spool's quota is full; see logs/shipper.log.",
    ),
    Rule(
        "DriftloopRowsNotCaptured", "delta(driftloop_model_gap_rows[15m]) > 0", "0m", "page",
        "Rows of {{ $labels.model }} were answered and not captured.",
        "Its counts in `driftloop status` name the reason; free the disk, or make Kafka reachable.",
    ),
    Rule(
        "DriftloopLabelsLate", "driftloop_model_label_lag_seconds > 7 * 86400", "1h", "ticket",
        "Labels of {{ $labels.model }} are behind by more than a week.",
        "Its error is not known meanwhile; see whether feedback is still sent.",
    ),
    Rule(
        "DriftloopTooManyAlerts",
        "driftloop_alerts_last_month - 10 * driftloop_alerts_promised_per_month > 0", "1h",
        "ticket", "There were far more alerts than false ones are allowed in a month.",
        "Look at what became of them: raise the margin of noisy models, or fix what drifts.",
    ),
)  # fmt: skip


def rendered(rules: Sequence[Rule]) -> dict[str, Any]:
    """In the form of Prometheus' rule files."""
    return {
        "groups": [
            {
                "name": "driftloop",
                "rules": [
                    {
                        "alert": rule.name,
                        "expr": rule.expr,
                        "for": rule.lasting,
                        "labels": {"severity": rule.severity},
                        "annotations": {
                            "summary": rule.summary, "description": rule.what_to_do,
                        },
                    }
                    for rule in rules
                ],
            }
        ]
    }  # fmt: skip


def text() -> str:
    head = "# Written by deploy/prometheus/alert_rules.py. Do not edit.\n"
    return head + yaml.safe_dump(rendered(RULES), sort_keys=False, width=100)


if __name__ == "__main__":
    keep({FILE: text()}, sys.argv[1:])
