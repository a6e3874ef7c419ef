"""The parts common to all replicas: a batcher with its models, the spool, and the counts."""

import asyncio
import gc
from functools import partial
from typing import TYPE_CHECKING, Any

import driftloop_onnx
from driftloop_artifacts import open_artifacts
from driftloop_contracts.errors import RetryLater
from driftloop_onnx.options import BackendOptions
from driftloop_serving.batching.batcher import Batcher, Forward
from driftloop_serving.batching.model_table import ModelTable, held_remotely, reload
from driftloop_serving.capture.durability import durability
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.metrics.meter_files import Load, MeterFiles
from driftloop_serving.replicas.autoscaling import LOAD, LoadMeter
from driftloop_serving.replicas.replica_config import ReplicaConfig, fingerprint
from driftloop_serving.replicas.replica_report import report, report_left
from driftloop_serving.replicas.reporting import Reporting
from driftloop_serving.replicas.residency import Residency
from driftloop_settings import Settings
from driftloop_telemetry import open_tracing

if TYPE_CHECKING:
    from driftloop_onnx import Loaded

IN_FLIGHT_LIMIT = 1024


class ModelHost:
    """Create it on the event loop. `name`: the prefix of the spool folder's name."""

    def __init__(self, settings: Settings, name: str, forward: Forward | None = None) -> None:
        self._settings = settings
        self._artifacts = open_artifacts(settings)
        self.spool = SpoolWriter(settings.spool_dir, name, settings.capture)
        meter = self.meter = ReplicaMeter()
        self.durability = durability(self.spool, settings.capture)
        tracing = open_tracing("serving")
        self.batcher = Batcher(
            self.spool,
            meter,
            in_flight_limit=IN_FLIGHT_LIMIT,
            forward=forward,
            durability=self.durability,
            tracing=None if tracing is None else CallTracing(tracing),
        )
        self.counts = MeterFiles(
            settings.state_dir / "metrics",
            settings.spool_dir,
            self.spool.replica,
            meter,
            self._busy,
        )
        limit_mb = settings.serving.graph_memory_mb
        self._residency = None if limit_mb is None else Residency(limit_mb << 20)
        self._load = LoadMeter(lambda: self.batcher.busy_s)
        self._counting = asyncio.create_task(self.counts.keep_written())
        self._reload = asyncio.Lock()
        self._ask_again_s: float | None = None
        self._again: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(0))
        self._reporting = Reporting()

    async def hold(self, user_config: dict[str, Any]) -> None:
        """Load new versions while requests are served, then switch to the new table."""
        async with self._reload:
            if self._again is not asyncio.current_task():
                self._again.cancel()
            self._ask_again_s = None
            config = ReplicaConfig.from_dict(user_config)
            table = await asyncio.to_thread(
                reload,
                self.batcher.table,
                config.deployments,
                self._load_version,
                self._settings.capture,
            )
            remote = {
                model.deployment.model.name: held_remotely(
                    model.deployment, model.held, model.addresses, model.failed
                )
                for model in config.remote
            }
            if not self.batcher.table.models:
                # Before the first request: exclude the objects loaded so far from garbage
                # collection, which would otherwise pause for a tenth of a second to visit them.
                gc.collect()
                gc.freeze()
            self.batcher.table = ModelTable({**table.models, **remote})
            await self._reporting.write(
                partial(
                    report,
                    self._settings,
                    self.spool.replica,
                    self.batcher.table,
                    fingerprint(user_config),
                )
            )
            if self._ask_again_s is not None:
                # The files of a version could not be reached; those that are loaded answer.
                later = self._hold_later(user_config, self._ask_again_s)
                self._again = asyncio.create_task(later)

    def _load_version(self, path: str, options: BackendOptions) -> "Loaded":
        load = partial(self._load_graph, path, options)
        if self._residency is None:
            return load()
        return self._residency.held(load, stays=options.stays_loaded)

    def _load_graph(self, path: str, options: BackendOptions) -> "Loaded":
        """Load a graph; once it is in memory, its files are not needed any more."""
        try:
            with self._artifacts.use(path) as folder:
                return driftloop_onnx.load(folder, options)
        except RetryLater as error:
            self._ask_again_s = error.retry_after_s
            raise

    async def _hold_later(self, user_config: dict[str, Any], seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.hold(user_config)

    def load(self) -> dict[str, float]:
        """Return the metric that Serve's autoscaling reads."""
        return {LOAD: self._load.load()}

    def _busy(self) -> Load:
        graphs = None if self._residency is None else self._residency.now()
        return Load(self.batcher.in_flight, self.batcher.busy_s, graphs)

    async def close(self) -> None:
        self._counting.cancel()
        self._again.cancel()
        self.batcher.close()
        if self._residency is not None:
            self._residency.close()
        if self.batcher.tracing is not None:
            await asyncio.to_thread(self.batcher.tracing.close)
        if self.durability is not None:
            self.durability.close()
        self.spool.close()
        await asyncio.to_thread(report_left, self._settings)
