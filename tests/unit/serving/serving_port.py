"""A replica's complete serving port on a real socket: protocol, batcher, spool, REST API; without
Ray."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_http.callers import Callers
from driftloop_onnx import signature_of
from driftloop_serving.batching.batcher import Batcher
from driftloop_serving.batching.model_table import reload
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.http.http_protocol import ConnectionLimits, Ingress
from driftloop_serving.http.rest_api import make_rest_api
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.metrics.meter_files import Load, MeterFiles
from driftloop_settings import CaptureSettings

BODY_LIMIT = 100_000
IN_FLIGHT_LIMIT = 64


class ServingPort:
    def __init__(
        self,
        root: Path,
        timeout_s: float = inf,
        *,
        limits: ConnectionLimits | None = None,
        in_flight_limit: int = IN_FLIGHT_LIMIT,
        cors_origins: Sequence[str] = (),
        tracing: CallTracing | None = None,
        **batching: int,
    ) -> None:
        self.spool = SpoolWriter(root / "spool", "replica", CaptureSettings())
        self.reader = SpoolReader(root / "spool" / self.spool.replica)
        self.meter = ReplicaMeter()
        self.batcher = Batcher(
            self.spool, self.meter, in_flight_limit=in_flight_limit, tracing=tracing, **batching
        )
        counts = MeterFiles(
            root / "metrics", root / "spool", self.spool.replica, self.meter, lambda: Load(0, 0.0)
        )
        self.app = make_rest_api(
            self.batcher,
            self.spool,
            counts,
            lambda: 1 / 0,
            body_limit_bytes=BODY_LIMIT,
            cors_origins=cors_origins,
        )
        self.ingress = Ingress(
            self.batcher,
            body_limit_bytes=BODY_LIMIT,
            timeout_s=timeout_s,
            limits=limits,
            callers=Callers(["x"], origins=cors_origins),
        )
        config = uvicorn.Config(
            self.app,
            http=self.ingress.protocol(),
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="error",
            timeout_graceful_shutdown=5,
        )
        self.server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=120)

    async def start(self) -> None:
        self._serving = asyncio.create_task(self.server._serve([self._listener]))
        while not self.server.started:
            await asyncio.sleep(0)

    async def stop(self) -> None:
        await self.http.aclose()
        self.server.should_exit = True
        await self._serving
        self.batcher.close()
        self.spool.close()

    def deploy(
        self,
        folder: Path,
        split: TrafficSplit | None = None,
        *versions: int,
        name: str = "m",
        options: dict[str, Any] | None = None,
    ) -> None:
        """Serve the folder's graph as these versions (1 by default), in addition to those served
        already."""
        signature = signature_of(folder)
        served = tuple(ServedVersion(v, str(folder), signature) for v in versions or (1,))
        deployment = Deployment(
            ModelSpec(name, options=options or {}), served, split or TrafficSplit(1)
        )
        self.serve([*(d for d in self.deployments if d.model.name != name), deployment])

    @property
    def deployments(self) -> list[Deployment]:
        return [served.deployment for served in self.batcher.table.models.values()]

    def serve(self, deployments: list[Deployment]) -> None:
        self.batcher.table = reload(self.batcher.table, deployments)

    async def ask(
        self, data: list[float], path: str = "/v2/models/m/infer", **headers: str
    ) -> httpx.Response:
        """Send one FP32 column to the model of `scaler`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, json=body(data), headers=named)

    def kept(self) -> list[PredictionBatch]:
        chunk = self.reader.read(1 << 20)
        self.reader.acknowledge(chunk, {})
        return chunk.predictions


def body(data: list[float]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(data), 1], "data": data}]}


@contextlib.asynccontextmanager
async def serving_port(
    root: Path, timeout_s: float = inf, **limits: Any
) -> AsyncIterator[ServingPort]:
    """Start a port. `limits`: of the connections and of the batcher, as `ServingPort` takes
    them."""
    port = ServingPort(root, timeout_s, **limits)
    await port.start()
    try:
        yield port
    finally:
        await port.stop()
