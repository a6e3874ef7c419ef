"""The `gateway` role: the control API on its port, until asked to stop."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from functools import cache, partial

import uvicorn

from driftloop_bus import connect
from driftloop_contracts.clock import system_clock
from driftloop_gateway.app import GatewayContext, make_app
from driftloop_gateway.archiver_lag import ArchiverLag
from driftloop_gateway.role_watch import RoleWatch
from driftloop_gateway.trace_watch import TraceWatch
from driftloop_lake.delta_lake import open_lake
from driftloop_registry.port import Registry
from driftloop_serving.label_intake import LabelIntake
from driftloop_settings import Settings
from driftloop_settings.memory import rare_collections
from driftloop_settings.run_state import RunState, read_run_state
from driftloop_settings.this_process import ThisProcess
from driftloop_store import await_store
from driftloop_telemetry import open_tracing

WARM_AFTER_S = 30.0
"""A gateway that was restarted on a busy machine answers first, and opens the registry later."""


def run(settings: Settings, stop: threading.Event) -> None:
    rare_collections()
    store = await_store(settings.store_url, stop)
    if store is None:
        return
    labels = LabelIntake(settings, "gateway", system_clock)

    @cache
    def registry() -> Registry:
        from driftloop_registry.mlflow_registry import open_registry

        return open_registry(settings)

    lake = open_lake(settings, many=True)
    context = GatewayContext(
        settings,
        store,
        lake,
        registry,
        labels,
        partial(read_run_state, settings.state_dir),
        system_clock,
        lake.erase,
        ArchiverLag(lambda topic: connect(settings).end_offsets(topic), lake.archived),
        stop.is_set,
    )
    config = uvicorn.Config(
        make_app(context),
        host=settings.control.host,
        port=settings.control.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    # The caller handles signals; `stop` ends this.
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    warm = threading.Thread(target=_warm, args=(registry,), daemon=True)
    machine = ThisProcess.of(settings).machine
    watch = RoleWatch(store, context.run_state, machine=machine)
    threading.Thread(target=watch.run, args=(stop,), daemon=True).start()
    tracing = open_tracing("loop")
    if tracing is not None:
        traces = TraceWatch(store, tracing, lake.traced)
        threading.Thread(target=traces.run, args=(stop,), daemon=True).start()
    warm_at = time.monotonic() + WARM_AFTER_S
    while not stop.wait(0.2) and thread.is_alive():
        due = warm.ident is None and time.monotonic() >= warm_at
        if due and _answers_predictions(context.run_state()):
            warm.start()
    server.should_exit = True
    thread.join(10.0)
    labels.close()
    store.close()


def _answers_predictions(state: RunState | None) -> bool:
    return state is None or state.ready


def _warm(registry: Callable[[], Registry]) -> None:
    """Open the registry in the background. MLflow creates its tables on first use, which takes
    seconds; neither the start nor the first deployment should wait for that."""
    thread = threading.get_native_id()
    # Only root may raise a priority again.
    now = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, max(5, now))
    with contextlib.suppress(Exception):  # a caller that needs it gets the error
        registry().aliases("")
