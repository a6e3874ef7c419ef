"""The gateway's application over a store, on a port of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn

from driftloop_gateway.app import GatewayContext, make_app
from driftloop_settings import ControlSettings, Settings
from driftloop_settings.ports import free_port
from driftloop_store import Store

NOT_USED: Any = None


@contextmanager
def console(store: Store, state_dir: Path, *, read_only: bool = False) -> Iterator[str]:
    """Its URL. The store is shared with the caller; nothing else of a stack runs."""
    stop = threading.Event()
    context = GatewayContext(
        settings=Settings(state_dir=state_dir, control=ControlSettings(read_only=read_only)),
        store=store,
        lake=NOT_USED,
        registry=NOT_USED,
        labels=NOT_USED,
        run_state=lambda: None,
        clock=lambda: datetime.now(UTC),
        erase=NOT_USED,
        stopping=stop.is_set,
    )
    port = free_port(taken=set())
    config = uvicorn.Config(
        make_app(context), port=port, log_level="warning", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.05)
            assert thread.is_alive(), "the server ended during its start"
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        server.should_exit = True
        thread.join(15)
