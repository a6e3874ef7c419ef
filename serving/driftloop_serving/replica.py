"""The Ray Serve deployment: a replica that holds every model's versions.

Ingress `direct`: the replica owns a SO_REUSEPORT listener, so a request never passes Serve's Python
proxy. Ingress `haproxy`: the same application behind Serve's proxy.
"""

import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import structlog
import uvicorn
from ray import serve
from ray.serve import Application
from ray.serve._private import replica as internals
from starlette.requests import Request
from starlette.responses import Response

from driftloop_contracts.model import Deployment
from driftloop_onnx import OnnxModel
from driftloop_serving.app import App
from driftloop_serving.inference import Inference
from driftloop_serving.model_table import reload
from driftloop_serving.replica_report import report
from driftloop_serving.spool import SpoolWriter
from driftloop_settings import Settings

log = structlog.get_logger()

IN_FLIGHT_LIMIT = 256
NAME = "replica"


class Replica:
    def __init__(self, settings: Settings) -> None:
        if settings.serving.ray_address is None:
            _keep_to_loopback()
        self._settings = settings
        spool = SpoolWriter(settings.spool_dir, NAME, settings.capture)
        self._spool_name = spool.replica
        self._inference = Inference(spool)
        self.app = App(self._inference, spool, settings.serving.body_limit_bytes, IN_FLIGHT_LIMIT)
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._reload = asyncio.Lock()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Load what is new beside the traffic, then swap. Serve calls this at the start, too."""
        async with self._reload:
            wanted = [Deployment.from_dict(d) for d in user_config["deployments"]]
            self._inference.table = await asyncio.to_thread(
                reload, self._inference.table, wanted, OnnxModel
            )
            await asyncio.to_thread(report, self._settings, self._spool_name, self._inference.table)
            if self._settings.serving.ingress == "direct" and self._server is None:
                await self._listen()

    async def _listen(self) -> None:
        serving = self._settings.serving
        listener = socket.create_server((serving.host, serving.port), backlog=1024, reuse_port=True)
        config = uvicorn.Config(
            self.app, http="httptools", ws="none", lifespan="off", access_log=False,
            log_level="warning", timeout_keep_alive=75, timeout_graceful_shutdown=10,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server._serve([listener]))

    def check_health(self) -> None:
        if self._serving is not None and self._serving.done():
            raise RuntimeError("the replica's listener ended")

    async def __del__(self) -> None:
        # Serve awaits this before it ends a replica: answers under way go out.
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving


class ProxiedReplica(Replica):
    """Behind Serve's proxy: it hands each request to the same application."""

    async def __call__(self, request: Request) -> Response:
        started: MutableMapping[str, Any] = {}
        chunks: list[bytes] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                chunks.append(message.get("body", b""))

        await self.app(request.scope, request.receive, send)
        response = Response(b"".join(chunks), started.get("status", 499))
        response.raw_headers = list(started.get("headers", []))
        return response


def _keep_to_loopback() -> None:
    """On a head of our own nobody else may call: Serve 2.60 would bind the replica's internal port to
    every interface, whatever the node's address (tests/e2e checks all of a stack's sockets)."""
    bind = internals.add_port_to_grpc_server
    internals.add_port_to_grpc_server = lambda server, address: bind(
        server, address.replace("[::]", "127.0.0.1")
    )


def build(arguments: dict[str, Any]) -> Application:
    """The application that Serve's declarative deploy imports by name. `arguments["settings"]`: the
    stack's settings as JSON."""
    settings = Settings.model_validate_json(arguments["settings"])
    kind = Replica if settings.serving.ingress == "direct" else ProxiedReplica
    return serve.deployment(kind, name=NAME).bind(settings)
