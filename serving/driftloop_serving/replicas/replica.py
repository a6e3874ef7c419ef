"""The Ray Serve deployment that receives requests and holds every model without dedicated replicas.

Ingress `direct`: the replica accepts at the HTTP port. Ingress `haproxy`: Serve's HAProxy forwards
to the HTTP server that Serve runs in the replica, which handles infer requests with the same
protocol. In both cases Serve's own request path is only used by Serve's fallback proxy, while
HAProxy knows no replica.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from driftloop_http.callers import Callers
from driftloop_http.request_guard import RequestGuard
from driftloop_serving.capture.durability import labels_kept
from driftloop_serving.grpc import grpc_server
from driftloop_serving.http.http_protocol import Ingress
from driftloop_serving.http.listener import GRACE_S, Listener
from driftloop_serving.http.rest_api import make_rest_api
from driftloop_serving.openai.openai_front import Front, add_openai
from driftloop_serving.ports.open_port import open_port
from driftloop_serving.replicas.application import REPLICA
from driftloop_serving.replicas.model_host import ModelHost
from driftloop_serving.replicas.own_replica import OwnReplicaClient
from driftloop_serving.replicas.ray_http_patch import keep_to_loopback, take_over_http
from driftloop_serving.replicas.replica_report import store
from driftloop_settings import Settings


class Replica:
    """`settings`: the stack's settings, as JSON."""

    def __init__(self, settings: str) -> None:
        self._settings = Settings.model_validate_json(settings)
        serving = self._settings.serving
        if serving.ray_address is None:
            keep_to_loopback()
        self._host = ModelHost(self._settings, REPLICA, forward=OwnReplicaClient())
        limits: Any = {
            "body_limit_bytes": serving.body_limit_bytes,
            "timeout_s": serving.request_timeout_s,
        }
        self._app = make_rest_api(
            self._host.batcher,
            self._host.spool,
            self._host.counts,
            lambda: store(self._settings.store_url),
            settled=lambda: labels_kept(self._host.durability),
            cors_origins=self._settings.control.cors_origins,
            **limits,
        )
        front = Front(
            lambda: self._host.batcher.table,
            self._host.meter,
            body_limit_bytes=serving.body_limit_bytes,
            timeout_s=self._settings.llm.request_timeout_s,
        )
        add_openai(self._app, front)
        callers = Callers.of(self._settings)
        self._guarded = RequestGuard(self._app, callers)
        self._ingress = Ingress(self._host.batcher, **limits, callers=callers)
        self._listener: Listener | None = None
        self._grpc: grpc_server.GrpcServer | None = None
        if serving.ingress == "haproxy":
            take_over_http(self._ingress, self._app)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply the configuration; Serve also calls this at the start."""
        await self._host.hold(user_config)
        await self._open()

    async def _open(self) -> None:
        """Accept connections, once the replica can answer."""
        if self._grpc is None:
            port = await asyncio.to_thread(open_port, self._settings, "grpc_port")
            self._grpc = await grpc_server.start(
                self._host.batcher, self._app, self._settings, port
            )
        if self._settings.serving.ingress == "direct" and self._listener is None:
            port = await asyncio.to_thread(open_port, self._settings, "port")
            self._listener = Listener(self._app, self._ingress.protocol(), port)

    async def __call__(self, request: Request) -> Response:
        """Handle a request forwarded by Serve's fallback proxy."""
        started: MutableMapping[str, Any] = {}
        chunks: list[bytes] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                chunks.append(message.get("body", b""))

        await self._guarded(request.scope, request.receive, send)
        response = Response(b"".join(chunks), started.get("status", 499))
        response.raw_headers = list(started.get("headers", []))
        return response

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._host.load()

    def check_health(self) -> None:
        if self._listener is not None and self._listener.ended:
            raise RuntimeError("the replica's listener has stopped")

    async def __del__(self) -> None:
        # Serve awaits this before it ends a replica, so that requests in progress are answered.
        leaving = [self._grpc.stop(GRACE_S)] if self._grpc is not None else []
        if self._listener is not None:
            leaving.append(self._listener.leave())
        await asyncio.gather(*leaving)
        await self._host.close()
