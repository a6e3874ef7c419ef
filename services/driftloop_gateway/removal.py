"""Removes a model: nothing of it is served, run or alerted any more. Its history stays on
record."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.errors import Conflict, NotFound, RetryLater
from driftloop_contracts.retrain import RetrainEvent
from driftloop_rollout import commands
from driftloop_store import Store

ERASE_TRIES = 5
UNLOAD_S = 15.0
POLL_S = 0.1


def remove(
    store: Store, model: str, now: datetime, erase: Callable[[str], None] | None
) -> dict[str, Any]:
    """Remove a deployment: replicas unload it, its retrain is cancelled, its rollout aborted, its
    alerts closed. Its versions stay in the registry, so that a number is never reused. `erase`
    deletes its rows from the lake; None keeps them. With `erase`, a model that is already removed
    is only erased, so that an erasure can be repeated. Raises NotFound, or RetryLater if the lake
    could not be written."""
    try:
        store.remove_deployment(model)
    except NotFound:
        if erase is None or model not in store.known_models():
            raise
    ended = [r.id for r in store.active_retrains() if r.model == model]
    for retrain_id in ended:
        with suppress(Conflict):  # it ended by itself
            store.change_retrain(retrain_id, lambda retrain: retrain.after(RetrainEvent.CANCEL))
    commands.end(store, model, "the model was removed", now)
    for alert in store.open_alerts(model):
        with suppress(Conflict):
            store.change_alert(alert.id, lambda alert: alert.after(AlertEvent.CLOSE))
    if erase is not None:
        _erase(erase, model)
        store.erase_sketches(model)
        store.put_erased(model, now)
    return {"model": model, "lake": "kept" if erase is None else "deleted", "retrains": ended}


def await_unloaded(store: Store, model: str, patience_s: float) -> bool:
    """Wait until no replica answers for a removed model any more. False if some still may after
    `patience_s` seconds, e.g. while they load another model."""
    deadline = time.monotonic() + patience_s
    while model in store.answered_models() and store.deployment(model) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _erase(erase: Callable[[str], None], model: str) -> None:
    """Retry, because the archiver may write at the same time."""
    for left in reversed(range(ERASE_TRIES)):
        try:
            erase(model)
            return
        except RetryLater:
            if not left:
                raise
