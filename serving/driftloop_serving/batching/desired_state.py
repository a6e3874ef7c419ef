"""Load and unload by request: the wish is written into the store, whose deployments the role
`serving` brings to every replica; this replica says so when its own table shows it."""

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


def wish(store: Store, model: str, *, loaded: bool) -> Deployment:
    """The deployment as it is wished. Raises NotFound for an unknown model."""
    for _ in range(TRIES):
        current = store.require_deployment(model)
        if current.loaded == loaded:
            return current
        try:
            wished = store.put_deployment(replace(current, loaded=loaded))
        except Conflict:
            continue  # somebody else changed it at this moment: read it again
        store.audit("client", "load" if loaded else "unload", {"model": model})
        return wished
    raise RetryLater(f"model {model!r} is being changed by others; try again")


async def until_shown(
    table: Callable[[], ModelTable], wished: Deployment, patience_s: float = PATIENCE_S
) -> None:
    """Wait for the table to show the deployment. Raises RetryLater where that takes too long,
    Unavailable where its stable version cannot be loaded."""
    name = wished.model.name
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        served = table().models.get(name)
        if served is not None and served.deployment.revision >= wished.revision:
            break
        if asyncio.get_running_loop().time() > deadline:
            verb = "loaded" if wished.loaded else "unloaded"
            raise RetryLater(
                f"model {name!r} is not {verb} after {patience_s:g} s; it may still be"
            )
        await asyncio.sleep(POLL_S)
    why = served.failed.get(served.deployment.split.stable)
    if why is not None:
        raise Unavailable(f"model {name!r} could not be loaded: {why}")
