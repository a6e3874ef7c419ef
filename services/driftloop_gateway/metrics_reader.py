"""`/metrics` of the control API: reads the store, a query for each table, at most every few
seconds, however many scrapers there are."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from driftloop_console.views.condition import ModelRecords
from driftloop_contracts.retrain import Retrain
from driftloop_gateway.fleet_metrics import BUDGETED, Fleet, FleetCollector, Measured
from driftloop_settings import Settings
from driftloop_store import Store
from driftloop_store.database import Record

KEPT_S = 5.0
MONTH = timedelta(days=30.44)


class MetricsReader:
    """Safe to call from several threads. archiver_lag: records by topic, if it is known."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        archiver_lag: Callable[[], Mapping[str, int]],
        clock: Callable[[], datetime],
        kept_s: float = KEPT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._archiver_lag = archiver_lag
        self._clock = clock
        self._kept_s = kept_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._texts: dict[str, bytes] = {}
        self._fleet = Fleet()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type. accept: the Accept header, with which a scraper
        may request OpenMetrics. Raises StoreAway."""
        encode, content_type = choose_encoder(accept)
        with self._lock:
            now = self._monotonic()
            if self._read_at is None or now - self._read_at >= self._kept_s:
                self._fleet = self._read()
                self._texts, self._read_at = {}, now
            if content_type not in self._texts:
                registry = CollectorRegistry()
                registry.register(FleetCollector(self._fleet))
                self._texts[content_type] = encode(registry)
            return self._texts[content_type], content_type

    def _read(self) -> Fleet:
        store = self._store
        windows, monitors = store.newest_windows(1), store.monitor_states()
        rollouts = {record["model"]: record for record in store.active_rollouts()}
        retrains = {retrain.model: retrain for retrain in store.active_retrains()}
        ledger: dict[str, list[Record]] = defaultdict(list)
        for entry in store.ledger():
            ledger[entry["model"]].append(entry)
        incidents: dict[str, dict[str, int]] = defaultdict(dict)
        for (model, urgency), count in store.count_incidents().items():
            incidents[model][urgency] = count
        effects = store.drift_effects()
        models = []
        for deployment in store.deployments():
            name = deployment.model.name
            retrain: Retrain | None = retrains.get(name)
            records = ModelRecords(
                deployment=deployment,
                window=next(iter(windows.get(name, ())), None),
                retrain=retrain,
                rollout=rollouts.get(name),
                ledger=ledger[name],
                monitor=monitors.get(name, {}),
            )
            models.append(Measured(records, effects.get(name), incidents[name]))
        return Fleet(
            models=models,
            archiver_lag=self._archiver_lag(),
            stack_incidents=incidents[""],
            retrains=store.count_by_state("retrains"),
            rollouts=store.count_by_state("rollouts"),
            alerts=store.count_alerts(self._clock() - MONTH).get(BUDGETED, 0),
            promised=self._settings.alerts.false_per_month,
            waiting_notices=store.count_waiting_notices(),
            degraded=store.degraded(),
            heartbeats=store.heartbeats(),
        )
