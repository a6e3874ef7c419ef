"""`GET /api/models/{model}/labels`: how labels arrive, as `driftloop labels` shows it."""

import threading
from typing import Any

from fastapi import APIRouter

from driftloop_contracts.clock import Clock
from driftloop_contracts.errors import RetryLater
from driftloop_contracts.event_times import parse_time
from driftloop_lake.label_arrival import arrival_document
from driftloop_lake.views import QueryStopped, Resources
from driftloop_settings import Settings
from driftloop_store import Store

RESOURCES = Resources("512MiB", "0MiB")
TIMEOUT_S = 20.0
"""A larger lake is read by the command in a process of its own."""


def label_api(
    settings: Settings,
    store: Store,
    clock: Clock,
    resources: Resources = RESOURCES,
    timeout_s: float = TIMEOUT_S,
) -> APIRouter:
    router, counting = APIRouter(), threading.Lock()

    @router.get("/api/models/{model}/labels")
    def model_labels(model: str, at: str | None = None) -> dict[str, Any]:
        """How many predictions of each version have a label, and how long labels take; `at`: only
        what was predicted and received by then. 503 for a lake that is too large to be counted
        beside other requests: `driftloop labels` counts it then."""
        until = None if at is None else parse_time(at, "at")
        deployment = store.deployment(model)
        if not counting.acquire(blocking=False):
            raise RetryLater("labels are being counted; try again in some seconds", 5.0)
        try:
            return arrival_document(
                settings.lake_uri,
                model,
                deployment.model if deployment else None,
                until,
                clock(),
                resources,
                timeout_s,
            )
        except QueryStopped as error:
            raise RetryLater(f"{error}; `driftloop labels` has no such limit", 60.0) from None
        finally:
            counting.release()

    return router
