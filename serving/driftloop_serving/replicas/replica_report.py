"""What a replica holds, told to the store, so that no canary gets traffic before it is loaded."""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from driftloop_serving.batching.model_table import ModelTable
from driftloop_settings import Settings
from driftloop_store import Store, open_store

PREFIX = "replica:"


@cache
def store(url: str) -> Store:
    return open_store(url)


def report(settings: Settings, replica: str, table: ModelTable) -> None:
    """Write the cursor `replica:<pid>`: what it holds, and what it was told that others hold."""
    models = {
        name: {
            "revision": served.deployment.revision,
            "versions": sorted(served.versions),
            "failed": {str(version): reason for version, reason in served.failed.items()},
        }
        for name, served in table.models.items()
        if served.remote is None
    }
    told = {
        name: sorted(served.remote)
        for name, served in table.models.items()
        if served.remote is not None
    }
    body = {"replica": replica, "pid": os.getpid(), "models": models, "told": told}
    store(settings.store_url).put_cursor(f"{PREFIX}{os.getpid()}", body)


def report_engine(
    settings: Settings, replica: str, model: str, held: Mapping[str, Any], address: str
) -> None:
    """The same of an engine's replica. `held`: `revision`, `versions` and `failed` as above;
    `address`: host:port where it answers, "" while it does not."""
    body = {"replica": replica, "pid": os.getpid(), "models": {model: held}, "address": address}
    store(settings.store_url).put_cursor(f"{PREFIX}{os.getpid()}", body)


def report_left(settings: Settings) -> None:
    """Say that this replica ends as it was asked to."""
    body: dict[str, Any] = {"pid": os.getpid(), "models": {}, "left": True}
    store(settings.store_url).put_cursor(f"{PREFIX}{os.getpid()}", body)
