"""The state of all models as Prometheus' metrics. Pure; `metrics_reader` reads the store.

A model has at most MOST_SERIES series, whatever it does: metrics of a rollout are condensed to the
decisive one and the strictest of the others.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from driftloop_console.views.condition import ModelRecords
from driftloop_contracts.health import Degraded, Heartbeat
from driftloop_contracts.incident import Urgency
from driftloop_contracts.judgement import CheckKind
from driftloop_contracts.retrain import RetrainState
from driftloop_evaluation.measures import QUALITY
from driftloop_store.store import FINISHED_ROLLOUTS

MOST_SERIES = 20
BUDGETED = CheckKind.PERFORMANCE
"""The alerts that `alerts.false_per_month` is a promise about."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model. effect: the largest among its newest drift findings, if there are any; incidents:
    those not resolved, by urgency."""

    records: ModelRecords
    effect: float | None = None
    incidents: Mapping[str, int] = field(default_factory=dict)

    @property
    def window(self) -> Mapping[str, Any] | None:
        return self.records.window

    @property
    def is_judged(self) -> bool:
        return self.window is not None and self.window["status"] == "judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All models. archiver_lag: records by topic, empty if it is not known; stack_incidents: those
    of no model; alerts: those of BUDGETED raised in the last month; promised: how many of them may
    be false."""

    models: Sequence[Measured] = ()
    archiver_lag: Mapping[str, int] = field(default_factory=dict)
    stack_incidents: Mapping[str, int] = field(default_factory=dict)
    retrains: Mapping[str, int] = field(default_factory=dict)
    rollouts: Mapping[str, int] = field(default_factory=dict)
    alerts: int = 0
    promised: float = 0.0
    waiting_notices: int = 0
    degraded: Sequence[Degraded] = ()
    heartbeats: Sequence[Heartbeat] = ()


def _rollout(name: str) -> Callable[[Measured], float | None]:
    def read(model: Measured) -> float | None:
        rollout = model.records.active_rollout
        return None if rollout is None else float(rollout.get(name) or 0)

    return read


def _moved(name: str) -> Callable[[Measured], float | None]:
    return lambda m: float(len(m.records.monitor.get(name, ()))) if m.window else None


def _ended(model: Measured) -> float | None:
    return datetime.fromisoformat(model.window["ended_at"]).timestamp() if model.window else None


GAUGES: tuple[tuple[str, str, Callable[[Measured], float | None]], ...] = (
    ("error", "Mean loss of the rows judged by their labels, in [0, 1].",
     lambda m: m.records.error),
    ("estimated_error", "Mean loss expected of the rows of the newest window from the confidence "
     "of their answers, before labels; absent without probabilities.",
     lambda m: m.records.estimated),
    ("reference_error", "Mean loss on the reference.", lambda m: m.records.reference),
    ("drift_effect", "Largest effect of a drift finding of the newest window, in the unit of its "
     "check; 0: none was found.", lambda m: (m.effect or 0.0) if m.is_judged else None),
    ("drifted_columns", "Columns that moved away from the reference.", _moved("drifted")),
    ("broken_columns", "Columns whose data are broken.", _moved("broken")),
    ("label_lag_seconds", "How far the rows judged by their labels are behind those in windows.",
     lambda m: m.records.label_lag_s),
    ("window_end_timestamp_seconds", "When the newest window ended.", _ended),
    ("window_judged", "1 if the newest window was judged, 0 if it is inconclusive.",
     lambda m: float(m.is_judged) if m.window else None),
    ("spooled_rows", "Rows that wait in spools to be sent to Kafka, the lag of the shipper.",
     lambda m: float(sum(entry["spooled"] for entry in m.records.ledger))),
    ("gap_rows", "Rows that were answered and not captured, whether or not the reason is known.",
     lambda m: float(m.records.gaps)),
    ("retraining", "1 while a retrain is requested or runs.",
     lambda m: float(m.records.active_retrain is not None)),
    ("rollout_share", "Share of the traffic that the candidate of the active rollout gets.",
     _rollout("weight")),
)  # fmt: skip


class FleetCollector(Collector):
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        fleet = self._fleet
        yield GaugeMetricFamily("driftloop_models", "Deployed models.", value=len(fleet.models))
        for name, meaning, value_of in GAUGES:
            values = ((m.records.deployment.model.name, value_of(m)) for m in fleet.models)
            yield _gauge(f"model_{name}", meaning, ("model",), (
                ((model,), value) for model, value in values if value is not None
            ))  # fmt: skip
        yield _evidence(fleet.models)
        yield from _of_the_stack(fleet)


def _evidence(models: Sequence[Measured]) -> Metric:
    rows = []
    for model in models:
        name, rollout = model.records.deployment.model.name, model.records.active_rollout
        for metric, (worse, proof) in condensed(rollout).items():
            rows += [((name, metric, "worse"), worse), ((name, metric, "proof"), proof)]
    return _gauge(
        "model_rollout_log_e",
        "Natural logarithm of the highest e-value so far of the active rollout: that the candidate "
        "is `worse`, and the `proof` that a promotion needs. metric: `quality`, the decisive one, "
        "or `others`: the strongest of them for `worse`, the weakest for `proof`.",
        ("model", "metric", "claim"),
        rows,
    )


def condensed(rollout: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    """The logarithms of the e-values for "worse" and for the proof, of the decisive metric, and of
    the others together: whichever of them is most likely to end, or to hold up, the rollout."""
    curve = (rollout or {}).get("curve")
    if not curve:
        return {}
    logs = {name: (pair[0], pair[1]) for name, pair in curve[-1]["logs"].items()}
    others = [pair for name, pair in logs.items() if name != QUALITY]
    found = {QUALITY: logs[QUALITY]} if QUALITY in logs else {}
    if others:
        found["others"] = (max(worse for worse, _ in others), min(proof for _, proof in others))
    return found


def _of_the_stack(fleet: Fleet) -> Iterator[Metric]:
    yield _gauge(
        "incidents_open",
        'Incidents that are not resolved, by severity; model "": of the whole stack.',
        ("model", "severity"),
        [
            ((model, urgency), counts.get(urgency, 0))
            for model, counts in (
                ("", fleet.stack_incidents),
                *((m.records.deployment.model.name, m.incidents) for m in fleet.models),
            )
            for urgency in Urgency
        ],
    )
    for name, counts, expected in (
        ("retrains", fleet.retrains, [str(state) for state in RetrainState]),
        ("rollouts", fleet.rollouts, FINISHED_ROLLOUTS),
    ):
        yield _gauge(
            name,
            f"{name.capitalize()} so far, by their state now.",
            ("state",),
            [((state,), counts.get(state, 0)) for state in dict.fromkeys((*expected, *counts))],
        )
    yield _gauge(
        "alerts_promised_per_month",
        "False alerts on a risen error that `alerts.false_per_month` allows, of all models.",
        (),
        [((), fleet.promised)],
    )
    yield _gauge(
        "alerts_last_month",
        "Alerts on a risen error in the last month, justified or not.",
        (),
        [((), fleet.alerts)],
    )
    yield _gauge(
        "archiver_lag_records",
        "Records in Kafka that are not in the lake yet; absent while Kafka or the lake is away.",
        ("topic",),
        [((topic,), records) for topic, records in fleet.archiver_lag.items()],
    )
    yield _gauge(
        "notices_waiting",
        "Notices of incidents that no message has taken on yet.",
        (),
        [((), fleet.waiting_notices)],
    )
    yield _gauge(
        "role_degraded",
        "Subjects (models, or the whole role) for which the cycles of a role keep failing.",
        ("role",),
        _degraded(fleet),
    )
    yield _gauge(
        "role_heartbeat_timestamp_seconds",
        "When a role was heard of last; of several processes the one that is silent longest.",
        ("role",),
        _heard_of(fleet),
    )


def _heard_of(fleet: Fleet) -> list[tuple[tuple[str], float]]:
    """One series for each role, however many processes it has."""
    found: dict[str, float] = {}
    for beat in fleet.heartbeats:
        found[beat.role] = min(beat.at.timestamp(), found.get(beat.role, math.inf))
    return [((role,), at) for role, at in found.items()]


def _degraded(fleet: Fleet) -> list[tuple[tuple[str], float]]:
    roles = dict.fromkeys([beat.role for beat in fleet.heartbeats], 0.0)
    for found in fleet.degraded:
        roles[found.role] = roles.get(found.role, 0.0) + 1.0
    return [((role,), count) for role, count in roles.items()]


def _gauge(
    name: str,
    meaning: str,
    labels: Sequence[str],
    rows: Iterable[tuple[Sequence[str], float]],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"driftloop_{name}", meaning, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
