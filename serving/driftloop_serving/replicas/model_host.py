"""The parts common to all replicas: a batcher with its models, the spool, and the counts."""

import asyncio
import gc
from functools import partial
from typing import Any

from driftloop_serving.batching.batcher import Batcher, Forward
from driftloop_serving.batching.model_table import ModelTable, held_remotely, reload
from driftloop_serving.capture.durability import durability
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.metrics.meter_files import Load, MeterFiles
from driftloop_serving.replicas.autoscaling import LOAD, LoadMeter
from driftloop_serving.replicas.replica_config import ReplicaConfig
from driftloop_serving.replicas.replica_report import report, report_left
from driftloop_serving.replicas.reporting import Reporting
from driftloop_settings import Settings
from driftloop_telemetry import open_tracing

IN_FLIGHT_LIMIT = 1024


class ModelHost:
    """Create it on the event loop. `name`: the prefix of the spool folder's name."""

    def __init__(self, settings: Settings, name: str, forward: Forward | None = None) -> None:
        self._settings = settings
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
            lambda: Load(self.batcher.in_flight, self.batcher.busy_s),
        )
        self._load = LoadMeter(lambda: self.batcher.busy_s)
        self._counting = asyncio.create_task(self.counts.keep_written())
        self._reload = asyncio.Lock()
        self._reporting = Reporting()

    async def hold(self, user_config: dict[str, Any]) -> None:
        """Load new versions while requests are served, then switch to the new table."""
        async with self._reload:
            config = ReplicaConfig.from_dict(user_config)
            table = await asyncio.to_thread(
                reload, self.batcher.table, config.deployments, capture=self._settings.capture
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
                partial(report, self._settings, self.spool.replica, self.batcher.table)
            )

    def load(self) -> dict[str, float]:
        """Return the metric that Serve's autoscaling reads."""
        return {LOAD: self._load.load()}

    async def close(self) -> None:
        self._counting.cancel()
        self.batcher.close()
        if self.batcher.tracing is not None:
            await asyncio.to_thread(self.batcher.tracing.close)
        if self.durability is not None:
            self.durability.close()
        self.spool.close()
        await asyncio.to_thread(report_left, self._settings)
