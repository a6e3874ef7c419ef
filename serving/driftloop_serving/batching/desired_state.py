"""Load and unload by request: the desired state is written into the store, whose deployments the
role `serving` brings to every replica; the request is answered when this one's table shows it."""

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
    """The deployment with this desired state. Raises NotFound for an unknown model."""
    for _ in range(TRIES):
        current = store.require_deployment(model)
        if current.loaded == loaded:
            return current
        try:
            wanted = store.put_deployment(replace(current, loaded=loaded))
        except Conflict:
            continue  # changed by another at the same time: read it again
        store.audit("client", "load" if loaded else "unload", {"model": model})
        return wanted
    raise RetryLater(f"model {model!r} is being changed by others; try again")


async def until_applied(
    table: Callable[[], ModelTable], wanted: Deployment, patience_s: float = PATIENCE_S
) -> None:
    """Wait for the table to show the deployment. Raises RetryLater if that takes too long,
    Unavailable if its stable version cannot be loaded."""
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
