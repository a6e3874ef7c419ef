"""Loads and unloads models on request. The desired state is written to the store; the `serving`
role applies the store's deployments to all replicas. The request is answered once the table of this
replica shows the change."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from driftloop_contracts.errors import Conflict, RetryLater, Unavailable
from driftloop_contracts.model import Deployment
from driftloop_serving.batching.model_table import ModelTable
from driftloop_store import Store

TRIES = 5
POLL_S = 0.02
PATIENCE_S = 60.0


def set_loaded(store: Store, model: str, *, loaded: bool) -> Deployment:
    """Set whether the model is to be loaded, and return its deployment. Raises NotFound for an
    unknown model, RetryLater if concurrent changes keep it from being written."""
    for _ in range(TRIES):
        current = store.require_deployment(model)
        if current.loaded == loaded:
            return current
        try:
            wanted = store.put_deployment(replace(current, loaded=loaded))
        except Conflict:
            continue  # changed concurrently: read it again
        store.audit("client", "load" if loaded else "unload", {"model": model})
        return wanted
    raise RetryLater(f"model {model!r} is being changed by others; try again")


async def until_applied(
    table: Callable[[], ModelTable], wanted: Deployment, patience_s: float = PATIENCE_S
) -> None:
    """Wait until the table shows the deployment. Raises RetryLater after `patience_s` seconds,
    Unavailable if the stable version cannot be loaded."""
    name = wanted.model.name
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        served = table().models.get(name)
        if served is not None and served.deployment.revision >= wanted.revision:
            break
        if asyncio.get_running_loop().time() > deadline:
            verb = "loaded" if wanted.loaded else "unloaded"
            raise RetryLater(
                f"model {name!r} is not {verb} after {patience_s:g} s; it may still be"
            )
        await asyncio.sleep(POLL_S)
    why = served.failed.get(served.deployment.split.stable)
    if why is not None:
        raise Unavailable(f"model {name!r} could not be loaded: {why}")
