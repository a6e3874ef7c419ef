"""Reports the versions that a replica holds to the store, so that a canary gets no traffic before
it is loaded."""

import os
from contextlib import suppress
from functools import cache
from typing import Any

import ray

from driftloop_contracts.replica import HeldVersions, ReplicaReport
from driftloop_serving.batching.model_table import ModelTable
from driftloop_settings import Settings
from driftloop_store import Store, StoreAway, open_store


@cache
def store(url: str) -> Store:
    return open_store(url)


def report(settings: Settings, replica: str, table: ModelTable, config: str) -> None:
    """Report the versions that the replica holds, those that it knows other replicas to hold, and
    the fingerprint of the configuration that it has applied."""
    models = {
        name: HeldVersions(
            revision=served.deployment.revision,
            versions=tuple(sorted(served.versions)),
            failed=served.failed,
        )
        for name, served in table.models.items()
        if served.remote is None
    }
    remote = {
        name: tuple(sorted(served.remote))
        for name, served in table.models.items()
        if served.remote is not None
    }
    reported = ReplicaReport(
        **_here(), replica=replica, models=models, remote=remote, config=config
    )
    _put(settings, reported)


def report_engine(
    settings: Settings, replica: str, model: str, held: HeldVersions, address: str
) -> None:
    """Report the versions of an engine's replica. `address`: host:port of its API, "" until it
    answers."""
    models = {model: held}
    _put(
        settings,
        ReplicaReport(**_here(), replica=replica, models=models, address=address),
    )


def report_left(settings: Settings) -> None:
    """Report that this replica ends on request, if the store is available."""
    with suppress(StoreAway):
        _put(settings, ReplicaReport(**_here(), left=True))


def _here() -> dict[str, Any]:
    """Return the fields that name this process."""
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    return {"pid": os.getpid(), "node": node}


def _put(settings: Settings, found: ReplicaReport) -> None:
    store(settings.store_url).put_replica_report(found)
