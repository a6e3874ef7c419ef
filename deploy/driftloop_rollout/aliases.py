"""Sets the aliases of the registry when rollouts have ended. Traffic never waits for it: pending
changes are kept in the store and tried again until they succeed."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from driftloop_contracts.errors import Conflict, NotFound
from driftloop_registry.port import Registry
from driftloop_rollout.machine import Rollout, State
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, StoreAway
from driftloop_store.cycle_health import SILENCE_S, CycleHealth

log = structlog.get_logger()
RECENT = 200
RETRY_S = 2.0


def settle_aliases(store: Store, open_registry: Callable[[], Registry]) -> int:
    """Set the pending aliases, oldest rollout first, and return their number. Safe to repeat."""
    due = [r for r in map(Rollout.from_record, store.rollouts(limit=RECENT)) if r.registry_due]
    for rollout in sorted(due, key=lambda r: r.requested_at):
        _set(open_registry(), rollout)
        done = replace(rollout, registry_due=False)
        store.save_rollout(done.id, done.revision, done.state, done.to_body())
        log.info(
            "rollout.registered", model=rollout.model, rollout_id=rollout.id, state=rollout.state
        )
    return len(due)


def _set(registry: Registry, rollout: Rollout) -> None:
    version = rollout.candidate.version
    try:
        if rollout.state is State.PROMOTED:
            registry.set_alias(rollout.model, "champion", version)
        if registry.aliases(rollout.model).get("challenger") == version:
            registry.set_alias(rollout.model, "challenger", None)
    except NotFound:  # it was deployed without registration
        log.warning(
            "rollout.unregistered", model=rollout.model, rollout_id=rollout.id, version=version
        )


def start_aliases(
    store: Store,
    open_registry: Callable[[], Registry],
    stop: threading.Event,
    process: ThisProcess,
) -> threading.Thread:
    """Run `run_aliases` in a thread."""
    arguments = (store, open_registry, stop, process)
    registrar = threading.Thread(target=run_aliases, args=arguments, daemon=True)
    registrar.start()
    return registrar


def run_aliases(
    store: Store,
    open_registry: Callable[[], Registry],
    stop: threading.Event,
    process: ThisProcess | None = None,
) -> None:
    """Set pending aliases until `stop` is set."""
    health = CycleHealth(store, "rollout/registry", silence_s=SILENCE_S, process=process)
    while not stop.wait(RETRY_S):
        with suppress(StoreAway), health.cycle(), suppress(Conflict):
            settle_aliases(store, open_registry)
    health.ended()
