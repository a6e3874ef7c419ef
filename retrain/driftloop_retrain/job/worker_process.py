"""The process in which a retrain runs. Its parent, the role, writes an `Order` to its standard
input.

Exit codes: 0: the retrain ended, in any state; RETRY: a service was unavailable, run it again;
STORE_AWAY: the store was unavailable, so the record does not show why.
"""

import fcntl
import os
import sys
from dataclasses import replace
from functools import partial

import structlog
from pydantic import BaseModel

from driftloop_contracts.clock import system_clock
from driftloop_contracts.errors import RetryLater
from driftloop_retrain.record.workspace import work_folder, work_lock
from driftloop_settings import Settings
from driftloop_settings.logs import configure_logs
from driftloop_settings.niceness import give_way

log = structlog.get_logger()
RETRY, STORE_AWAY = 75, 76


class Order(BaseModel):
    """What to run. `settings` are without Kafka's, whose password a recipe must not see."""

    settings: Settings
    retrain_id: str
    parent: int


def main() -> int:
    from driftloop_store import StoreAway

    configure_logs()
    try:
        return _run()
    except StoreAway:
        return STORE_AWAY


def _run() -> int:
    order = Order.model_validate_json(sys.stdin.buffer.read())
    settings = order.settings
    give_way(settings.retrain.nice, leader=order.parent)
    # the parent died before the kernel was asked to end us with it
    if os.getppid() != order.parent:
        return RETRY

    from driftloop_artifacts import open_artifacts
    from driftloop_lake.delta_lake import open_lake
    from driftloop_registry.mlflow_registry import open_registry
    from driftloop_retrain.job.job import RetrainContext, run_retrain
    from driftloop_retrain.record.shared_work import SharedWork
    from driftloop_store import open_store

    store = open_store(settings.store_url)
    lock_path = work_lock(settings, order.retrain_id)
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a predecessor may still be ending
        context = RetrainContext(
            settings, store, open_lake(settings), open_registry(settings), system_clock
        )
        work = SharedWork(
            open_artifacts(settings),
            store,
            order.retrain_id,
            work_folder(settings, order.retrain_id),
        )
        try:
            work.restore()
            with work.kept():
                run_retrain(context, order.retrain_id)
        except RetryLater as error:
            log.warning("retrain.retry_later", retrain_id=order.retrain_id, reason=str(error))
            store.change_retrain(order.retrain_id, partial(replace, waiting_for=str(error)))
            return RETRY
    return 0


if __name__ == "__main__":
    sys.exit(main())
