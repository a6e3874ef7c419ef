"""The Ray Serve deployment of one engine: a language model's version with full weights, and the
adapters based on it. It answers on its own port, called by the replicas that receive requests.

A version that cannot be loaded is reported as failed, with the reason, and does not affect the
others.
"""

import asyncio
import os
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from driftloop_artifacts import open_artifacts
from driftloop_artifacts.manifest import is_address
from driftloop_contracts.capture import parse_capture
from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, ServedVersion
from driftloop_contracts.replica import HeldVersions
from driftloop_http.callers import Callers
from driftloop_http.request_guard import RequestGuard
from driftloop_serving.capture.capture_filter import capture_filter
from driftloop_serving.capture.durability import durability
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.http.listener import Listener
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.metrics.meter_files import Load, MeterFiles
from driftloop_serving.openai.openai_engine import EngineApp, Held
from driftloop_serving.openai.openai_request import TOKEN_CALLS
from driftloop_serving.ports.handover import BACKLOG
from driftloop_serving.ports.open_port import OpenPort
from driftloop_serving.replicas.ray_http_patch import keep_to_loopback
from driftloop_serving.replicas.replica_config import EngineConfig
from driftloop_serving.replicas.replica_report import report_engine, report_left
from driftloop_serving.replicas.reporting import Reporting
from driftloop_settings import Settings
from driftloop_telemetry import open_tracing
from driftloop_vllm.adapters import check_adapter, check_place, content_name
from driftloop_vllm.fetch import local_folder
from driftloop_vllm.options import installed_build, parse_options
from driftloop_vllm.weights import check_base

if TYPE_CHECKING:
    from driftloop_vllm.engine import Engine

log = structlog.get_logger()

ENGINE_WATCH_S = 0.2
SHADOW_ABOVE_GPU = 4
"""The calls in progress above which an engine with a GPU has no time for a shadow's answers. On
CPUs one is enough: each answer in the shadow would slow it down."""
LAST_WORDS_S = 1.0
GENERATES = frozenset(("/v1/chat/completions", "/v1/completions", "/v1/responses", *TOKEN_CALLS))
EMBEDS = frozenset(("/v1/embeddings", *TOKEN_CALLS))


class EngineReplica:
    """`settings`: the stack's settings, as JSON."""

    def __init__(self, settings: str) -> None:
        self._settings = Settings.model_validate_json(settings)
        self._is_local = self._settings.serving.ray_address is None
        if self._is_local:
            keep_to_loopback()
        if installed_build() != "cuda":
            os.nice(self._settings.llm.nice)
        state_dir = self._settings.state_dir
        self._spool = SpoolWriter(self._settings.spool_dir, "engine", self._settings.capture)
        meter = ReplicaMeter()
        self._durability = durability(self._spool, self._settings.capture)
        limit = self._settings.serving.body_limit_bytes
        tracing = open_tracing("serving")
        self._tracing = None if tracing is None else CallTracing(tracing)
        above = SHADOW_ABOVE_GPU if installed_build() == "cuda" else 0
        self._app = EngineApp(
            self._spool, meter, limit, self._durability, self._tracing, shadow_above=above
        )
        self._counts = MeterFiles(
            state_dir / "metrics",
            self._settings.spool_dir,
            self._spool.replica,
            meter,
            lambda: Load(self._app.in_flight, 0.0),
        )
        self._counting = asyncio.create_task(self._counts.keep_written())
        self._ending = asyncio.create_task(self._end_with_engine())
        self._changing = asyncio.Lock()
        self._reporting = Reporting()
        self._artifacts = open_artifacts(self._settings)
        self._in_use: dict[str, ExitStack] = {}
        """The engine may read its weights and adapters again: their folders must stay."""
        self._engine: Engine | None = None
        self._base: Path | None = None
        self._listener: Listener | None = None
        self._address = ""

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply the configuration. Serve also calls this at the start, and marks the replica as
        ready when it returns."""
        async with self._changing:
            config = EngineConfig.from_dict(user_config)
            deployment = config.deployment
            names, failed = await self._hold(deployment, config.base)
            self._app.held = Held(
                self._engine,
                names,
                deployment.split,
                capture_filter(
                    parse_capture(deployment.model.options), SIGNATURE, self._settings.capture
                ),
                self._paths,
            )
            await self._unload_all_but(set(names.values()))
            served = {version.path for version in deployment.versions}
            for path in self._in_use.keys() - served:
                self._in_use.pop(path).close()
            if self._engine is not None and self._listener is None:
                host = "127.0.0.1" if self._is_local else ray.util.get_node_ip_address()
                app = RequestGuard(self._app, Callers(is_open=not self._is_local))
                port = OpenPort(socket.create_server((host, 0), backlog=BACKLOG))
                self._listener = Listener(app, HttpToolsProtocol, port)
                self._address = f"{host}:{self._listener.port}"
            held = HeldVersions(
                revision=deployment.revision, versions=tuple(sorted(names)), failed=failed
            )
            await self._reporting.write(
                partial(
                    report_engine,
                    self._settings,
                    self._spool.replica,
                    deployment.model.name,
                    held,
                    self._address,
                )
            )

    async def _hold(
        self, deployment: Deployment, base: int
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Load the versions. Returns the names of the loaded ones and the failure reasons of the
        others."""
        names: dict[int, str] = {}
        failed: dict[int, str] = {}
        served = deployment.version(base)
        adapters = [v for v in deployment.versions if v.base == base]
        if served is None:
            return names, {a.version: f"its base, version {base}, is gone" for a in adapters}
        try:
            await self._start(deployment, served)
            names[base] = deployment.model.name
        except Exception as error:  # the errors of vLLM and torch have no common base
            reason = _reason(error)
            log.warning("llm.not_loaded", version=base, reason=reason)
            return names, dict.fromkeys([base, *(a.version for a in adapters)], reason)
        for adapter in adapters:
            try:
                names[adapter.version] = await self._load(deployment, adapter)
            except Exception as error:
                failed[adapter.version] = _reason(error)
                log.warning("llm.adapter_refused", version=adapter.version, reason=_reason(error))
        return names, failed

    async def _start(self, deployment: Deployment, served: ServedVersion) -> None:
        if self._engine is not None:
            return
        options = parse_options(deployment.model.options)
        folder = await asyncio.to_thread(self._checked, served.path)
        await asyncio.to_thread(check_base, folder)
        from driftloop_vllm.engine import Engine

        self._engine = await Engine.start(deployment.model.name, folder, options.engine)
        self._base = folder

    async def _load(self, deployment: Deployment, served: ServedVersion) -> str:
        """Load the version if needed, and return its name in the engine."""
        assert self._engine is not None
        assert self._base is not None
        held = self._app.held.names.get(served.version)
        if held is not None:
            return held
        rank = parse_options(deployment.model.options).engine.max_lora_rank
        folder = await asyncio.to_thread(self._checked, served.path)
        await asyncio.to_thread(check_adapter, folder, self._base, max_rank=rank)
        name = await asyncio.to_thread(content_name, deployment.model.name, folder)
        if name not in self._engine.adapters:
            await self._engine.load_adapter(name, folder)
        return name

    async def _unload_all_but(self, wanted: set[str]) -> None:
        if self._engine is not None:
            for name in self._engine.adapters - wanted:
                await self._engine.unload_adapter(name)
                log.info("llm.adapter_unloaded", name=name)

    def _checked(self, path: str) -> Path:
        """Return the local folder of the weights. Raises Rejected if it is outside the allowed
        roots."""
        state_dir = self._settings.state_dir
        if is_address(path):
            if path not in self._in_use:
                self._in_use[path] = ExitStack()
            return self._in_use[path].enter_context(self._artifacts.use(path))
        roots = [str(state_dir), *self._settings.llm.roots]
        return check_place(local_folder(path, state_dir / "weights", roots), roots)

    @property
    def _paths(self) -> frozenset[str]:
        tasks = self._engine.tasks if self._engine is not None else ()
        found: frozenset[str] = frozenset()
        if "generate" in tasks:
            found |= GENERATES
        if "embed" in tasks:
            found |= EMBEDS
        return found

    async def _end_with_engine(self) -> None:
        """End the process when the engine has died and the waiting calls have received their
        errors. Serve then starts a new replica, and the death is counted and reported like that of
        any replica."""
        while self._engine is None or not self._engine.dead:
            await asyncio.sleep(ENGINE_WATCH_S)
        log.error("llm.engine_died")
        await asyncio.sleep(LAST_WORDS_S)
        os._exit(1)

    def check_health(self) -> None:
        if self._listener is not None and self._listener.ended:
            raise RuntimeError("the replica's listener has stopped")

    async def __del__(self) -> None:
        self._counting.cancel()
        self._ending.cancel()
        if self._listener is not None:
            await self._listener.leave()
        self._app.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)
        if self._durability is not None:
            await asyncio.to_thread(self._durability.close)
        self._spool.close()
        await asyncio.to_thread(report_left, self._settings)


def _reason(error: Exception) -> str:
    if isinstance(error, DriftloopError):
        return str(error)
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1][:300]}"
