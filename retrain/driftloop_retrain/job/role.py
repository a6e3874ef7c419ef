"""The `retrain` role: runs the retrains requested in the store, the oldest first, at most
`retrain.cores` at a time, each in a separate process with low priority. One that failed is
requested again (`retries`).

The processes end with the role. The role may be killed at any time: its successor finds the record
still `running` and resumes it.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog

from driftloop_artifacts import open_artifacts
from driftloop_contracts.errors import Conflict, Rejected
from driftloop_contracts.retrain import Retrain, RetrainEvent, RetrainState
from driftloop_retrain.job.last_words import LastWords
from driftloop_retrain.job.process_memory import used_mb, usual_limit_mb
from driftloop_retrain.job.retries import RetryPolicy, retry_of
from driftloop_retrain.job.worker_process import STORE_AWAY
from driftloop_retrain.record.shared_work import SharedWork
from driftloop_retrain.record.workspace import work_folder, work_lock
from driftloop_settings import Settings
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, StoreAway, await_store
from driftloop_store.cycle_health import SILENCE_S, CycleHealth
from driftloop_store.readers import LeaseLost
from driftloop_store.shares import Shares, opened_shares

log = structlog.get_logger()

POLL_S = 0.5
MAX_DEATHS = 5
"""How many times a retrain's process may die, or find a service unavailable, before the retrain
fails."""
PR_SET_PDEATHSIG = 1


def run(settings: Settings, stop: threading.Event) -> None:
    """Run retrains until stopped; those in progress are resumed at the next start."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    store = await_store(settings.store_url, stop)
    if store is None:
        return
    process = ThisProcess.of(settings)
    health = CycleHealth(store, "retrain", silence_s=SILENCE_S, process=process)
    cores = settings.retrain.cores
    under_way: dict[str, Future[None]] = {}
    with (
        opened_shares(settings, store, "retrain", patience_s=SILENCE_S, most=cores) as shares,
        ThreadPoolExecutor(cores, "retrain") as pool,
    ):
        while not stop.is_set():
            # The record shows where to resume, and whether it was cancelled meanwhile.
            with suppress(StoreAway), health.cycle(), suppress(Conflict):
                for ended in [key for key, future in under_way.items() if future.done()]:
                    under_way.pop(ended).result()
                _request_retries(settings, store)
                # At a stop or a lost lease they go on from their work folders, here or elsewhere.
                for id_ in shares.of([retrain.id for retrain in store.active_retrains()]):
                    if id_ not in under_way:
                        still_ours = partial(_still_ours, shares, id_)
                        under_way[id_] = pool.submit(
                            _run_one, settings, store, id_, stop, still_ours
                        )
            stop.wait(POLL_S)
    health.ended()
    store.close()


def _still_ours(shares: Shares, retrain_id: str) -> None:
    """Raises LeaseLost if another machine has taken the retrain over."""
    if not shares.holds(retrain_id):
        raise LeaseLost(f"another machine has taken over the retrain {retrain_id}")


def _run_one(
    settings: Settings,
    store: Store,
    retrain_id: str,
    stop: threading.Event,
    at_work: Callable[[], None],
) -> None:
    """In a thread that lives as long as the process that it starts, which dies with it."""
    _Run(settings, store, retrain_id).to_its_end(stop, at_work)
    if not stop.is_set():
        work = work_folder(settings, retrain_id)
        shutil.rmtree(work, ignore_errors=True)
        work_lock(settings, retrain_id).unlink(missing_ok=True)
        SharedWork(open_artifacts(settings), store, retrain_id, work).forget()


def _request_retries(settings: Settings, store: Store) -> None:
    newest = store.newest_retrains(1)
    if not any(records[0]["state"] == RetrainState.FAILED for records in newest.values()):
        return
    rolled_out = {rollout["model"] for rollout in store.active_rollouts()}
    for model, records in newest.items():
        deployment = store.deployment(model)
        if deployment is None or model in rolled_out:
            continue
        with suppress(Rejected):  # of an invalid policy, which the retrain itself reports
            own = settings.for_model(deployment.model).retrain
            policy = RetryPolicy(own.retries, own.retry_delay_s)
            retry = retry_of([*map(Retrain.from_dict, records)], policy, datetime.now(UTC))
            if retry is not None:
                store.request_retrain(retry)
                log.info("retrain.retry", model=model, retrain_id=retry.id, attempt=retry.attempt)


def _limits(settings: Settings, store: Store, model: str) -> tuple[float, int]:
    """Return the deadline in seconds, and the memory in MiB, from the model's policy. An invalid
    policy makes the retrain itself fail later."""
    deployment = store.deployment(model)
    with contextlib.suppress(Rejected):
        if deployment is not None:
            settings = settings.for_model(deployment.model)
    shared = usual_limit_mb() // settings.retrain.cores
    return settings.retrain.deadline_s, settings.retrain.memory_mb or shared


def restart_delay_s(deaths: int) -> float:
    """Return the delay before a restart: none after the first death, then 1, 2, 4 … seconds."""
    return 0.0 if deaths <= 1 else float(2 ** (deaths - 2))


def start(retrain: Retrain, now: datetime) -> Retrain:
    """Mark the retrain as running, for the first or a later time. Raises Conflict if it has
    ended."""
    return replace(retrain.after(RetrainEvent.START), started_at=retrain.started_at or now)


class _Run:
    """A retrain and its process."""

    def __init__(self, settings: Settings, store: Store, retrain_id: str) -> None:
        """Raises Conflict if the retrain was cancelled meanwhile."""
        self._settings, self._store = settings, store
        self._id = retrain_id
        self._deaths = 0
        now = datetime.now(UTC)
        started = store.change_retrain(retrain_id, lambda retrain: start(retrain, now))
        self._started = started.started_at or now
        self._deadline_s, self._memory_mb = _limits(settings, store, started.model)

    def to_its_end(self, stop: threading.Event, at_work: Callable[[], None]) -> None:
        """Until the record is in a final state, or the role is to stop. at_work: called often
        meanwhile; what it raises ends the process, and nothing is recorded."""
        while self._active(stop) and not stop.is_set():
            process = self._start()
            said = LastWords(process.stderr) if process.stderr else None
            try:
                while process.poll() is None and not stop.wait(POLL_S):
                    at_work()
                    if not self._active(stop):  # cancelled
                        return
                    if self._overdue():
                        self._fail(
                            f"{self._stage()}: not done after {self._deadline_s:g} s", again=False
                        )
                        return
                    if (used := used_mb(process.pid)) > self._memory_mb:
                        self._fail(
                            f"{self._stage()}: its process uses {used:,} MiB of memory, and "
                            f"{self._memory_mb:,} are allowed (retrain.memory_mb)",
                            again=False,
                        )
                        return
            finally:
                process.kill()
                process.wait()
            if not self._active(stop) or stop.is_set():
                return
            if process.returncode == STORE_AWAY:
                continue
            self._deaths += 1
            log.warning("retrain.died", retrain_id=self._id, code=process.returncode)
            if self._deaths >= MAX_DEATHS:
                self._fail(*self._last_words(process.returncode, said.text() if said else ""))
                return
            stop.wait(restart_delay_s(self._deaths))

    def _active(self, stop: threading.Event) -> bool:
        """Whether the retrain should be running. Waits while the store is unavailable; the process
        continues meanwhile."""
        while True:
            try:
                return self._store.retrain(self._id).state is RetrainState.RUNNING
            except StoreAway:
                if stop.wait(POLL_S):
                    return False

    def _stage(self) -> str:
        progress = self._store.retrain(self._id).progress
        return progress.stage if progress else "start"

    def _overdue(self) -> bool:
        passed_s = (datetime.now(UTC) - self._started).total_seconds()
        return passed_s > self._deadline_s

    def _fail(self, reason: str, error: str = "", *, again: bool = True) -> None:
        """Fail the retrain. `error`: details for people, such as a traceback. again: whether
        another attempt may end otherwise."""
        now = datetime.now(UTC)
        self._store.change_retrain(
            self._id,
            lambda retrain: replace(
                retrain.after(RetrainEvent.FAIL),
                error=error or reason,
                reasons=(reason,),
                retryable=again,
                ended_at=now,
            ),
        )

    def _last_words(self, code: int, said: str) -> tuple[str, str]:
        """Return the reason for the process's end, and its last output."""
        waiting = self._store.retrain(self._id).waiting_for
        return waiting or f"its process ended {self._deaths} times, at last with {code}", said

    def _start(self) -> "subprocess.Popen[bytes]":
        from driftloop_retrain.job.worker_process import Order

        order = Order(settings=self._settings, retrain_id=self._id, parent=os.getpid())
        process = subprocess.Popen(
            [sys.executable, "-m", "driftloop_retrain.job.worker_process"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Fine-tuning uses more threads, which must not spin while others need the cores.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            preexec_fn=_die_with_parent,
        )
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(order.model_dump_json(exclude={"settings": {"kafka"}}).encode())
        log.info("retrain.started", retrain_id=self._id, pid=process.pid)
        return process


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
