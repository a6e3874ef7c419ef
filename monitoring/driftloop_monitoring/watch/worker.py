"""The `monitor` role: judges the new rows of each deployed model every `interval_s` seconds."""

import json
import threading
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from driftloop_artifacts import open_artifacts
from driftloop_bus import Producer, connect
from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.events import FINDINGS
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_lake.port import LakeReader
from driftloop_monitoring.state.monitor_state import MonitorState, Standing
from driftloop_monitoring.state.reference_cache import ReferenceCache
from driftloop_monitoring.statistics import evidently_adapter
from driftloop_monitoring.statistics.drift import Distance
from driftloop_monitoring.watch.decisions import decide, trigger_policy
from driftloop_monitoring.watch.model_watch import READ_ROWS, ModelWatch
from driftloop_monitoring.watch.reports import ReportWriter
from driftloop_settings import Settings
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, StoreAway, await_store
from driftloop_store.cycle_health import CycleHealth
from driftloop_store.readers import LeaseLost
from driftloop_store.shares import Shares, opened_shares

log = structlog.get_logger()

SEND_TIMEOUT_S = 5.0
SILENCE_S = 900.0
"""A backlog of windows with thousands of columns takes minutes."""


class FindingsTopic:
    """Sends findings to `driftloop.findings`, keyed by model, as JSON. Connects on first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def send(self, findings: tuple[Mapping[str, Any], ...]) -> bool:
        """Send findings; returns whether all are acknowledged. A finding that is sent again is a
        duplicate with the same id."""
        try:
            producer = self._connected()
            sent = [
                producer.send(FINDINGS, json.dumps(f).encode(), key=f["model"].encode())
                for f in findings
            ]
            producer.flush(SEND_TIMEOUT_S)
            for future in sent:
                future.result(timeout=SEND_TIMEOUT_S)
        except (DriftloopError, TimeoutError) as error:
            log.warning("monitor.findings_wait", findings=len(findings), error=str(error))
            return False
        return True

    def _connected(self) -> Producer:
        if self._producer is not None and self._producer.broken:
            self._producer.close()
            self._producer = None
        if self._producer is None:
            self._producer = connect(self._settings).producer()
        return self._producer

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()


class Monitor:
    """Watches all models. `step` does not raise if the watch of one model fails: the others
    continue."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        lake: LakeReader,
        topic: FindingsTopic,
        distance: Distance = evidently_adapter.distance,
        read_rows: int = READ_ROWS,
        health: CycleHealth | None = None,
        shares: Shares | None = None,
    ) -> None:
        self._shares = shares
        self._mine: frozenset[str] | None = None
        self._settings = settings
        self._store = store
        self._lake = lake
        self._topic = topic
        self._distance = distance
        self._read_rows = read_rows
        self._health = health or CycleHealth(
            store, "monitor", silence_s=SILENCE_S, process=ThisProcess.of(settings)
        )
        self.reports = ReportWriter(settings.reports_dir, open_artifacts(settings))
        self._watches: dict[str, ModelWatch] = {}
        self._references = ReferenceCache()

    def step(self, now: datetime) -> None:
        self._health.beat()
        deployments = self._store.deployments()
        names = {deployment.model.name for deployment in deployments}
        mine = self._part(names)
        for deployment in deployments:
            name = deployment.model.name
            if name not in mine:
                continue
            with self._health.cycle(name):
                try:
                    self._step(deployment, len(deployments), now)
                except LeaseLost as lost:
                    self._watches.pop(name, None)
                    log.warning("monitor.lost", model=name, reason=str(lost))
        self._health.keep_only(names)

    def _part(self, names: set[str]) -> Collection[str]:
        """The models that this process watches. Of others it forgets what it knew."""
        if self._shares is None:
            return names
        mine = self._shares.of(names)
        if mine != self._mine:
            self._mine = mine
            self._watches = {name: w for name, w in self._watches.items() if name in mine}
            self._health.read_again()
        return mine

    def _save(self, name: str, state: MonitorState) -> None:
        cursor, body = f"monitor/{name}", state.to_dict()
        if self._shares is None:
            self._store.put_cursor(cursor, body, name)
        else:
            self._shares.alive()
            self._store.put_fenced_cursor(cursor, body, self._shares.fence(name), name)

    def _step(self, deployment: Deployment, models: int, now: datetime) -> None:
        """Judge, decide and send. What fails holds up nothing else, and loses nothing that was
        judged: the state is saved after each judgement."""
        spec = deployment.model
        watch = self._watch(spec)
        saved = self._store.cursor(f"monitor/{spec.name}")
        standing = Standing(
            MonitorState.from_dict(saved) if saved else None,
            MonitorState(deployment.split.stable, now),
            lambda state: self._save(spec.name, state),
        )
        standing.put(standing.state)
        with ExitStack() as then:  # run in reverse order, even after a failure
            then.callback(self._send, standing)
            then.callback(self._decide, watch, deployment, standing, now)
            watch.step(deployment, standing, now, models)

    def _decide(
        self, watch: ModelWatch, deployment: Deployment, standing: Standing, now: datetime
    ) -> None:
        if watch.can_decide:
            policy = trigger_policy(watch.settings, deployment.model)
            corrections = watch.corrections
            known, margin = watch.normal(standing.state)
            policy = replace(policy, margin=margin or policy.margin)
            standing.put(
                decide(self._store, deployment, standing.state, known, policy, now, corrections)
            )

    def _send(self, standing: Standing) -> None:
        outbox = standing.state.outbox
        if outbox and self._topic.send(outbox):
            standing.put(replace(standing.state, outbox=()))

    def _watch(self, spec: ModelSpec) -> ModelWatch:
        """Return the watch of a model; a new one if the spec, and so possibly the policy, has
        changed."""
        watch = self._watches.get(spec.name)
        if watch is None or watch.spec != spec:
            watch = self._watches[spec.name] = ModelWatch(
                spec,
                self._store,
                self._lake,
                self._settings.for_model(spec),
                self._distance,
                self.reports,
                self._read_rows,
                self._references,
            )
        return watch

    def close(self) -> None:
        self.reports.close()
        self._topic.close()
        self._health.ended()


def run(settings: Settings, stop: threading.Event, clock: Clock = system_clock) -> None:
    """Watch until `stop` is set."""
    from driftloop_lake.delta_lake import open_lake

    store = await_store(settings.store_url, stop)
    if store is None:
        return
    preload = threading.Thread(target=evidently_adapter.preload, daemon=True)
    log.info("monitor.started")
    with opened_shares(settings, store, "monitor", patience_s=SILENCE_S) as shares:
        topic = FindingsTopic(settings)
        monitor = Monitor(settings, store, open_lake(settings, many=True), topic, shares=shares)
        while not stop.is_set():
            with suppress(StoreAway):  # records that arrive meanwhile are judged later
                if preload.ident is None and store.deployments():
                    preload.start()
                monitor.step(clock())
            stop.wait(settings.monitoring.interval_s)
        monitor.close()
    store.close()
