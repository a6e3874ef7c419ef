"""Trials as tasks of a Ray cluster (`retrain.ray_address`). Which ones, and what they lead to, is
decided here, in the journal, as without a cluster: a worker only runs what it is ordered.

A worker that dies costs its trial, after one more try elsewhere. The tasks belong to this process:
if it is killed, Ray ends them, and the next search asks for them again.
"""

import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_retrain.record.pinning import or_later
from driftloop_retrain.tabular.tuning.folds import Fold
from driftloop_retrain.tabular.tuning.trial_task import TrialOrder, TrialRun, run_trial
from driftloop_settings import RetrainSettings

TRIES = 2
"""Of a trial whose worker dies."""
GRACE_S = 10.0
"""For a trial to say that the budget has ended, and for its answers to come."""

Files = Mapping[str, bytes]


class RayTrials:
    """See Executor: runs trials at the same time. Use it in a `with` block, at whose begin it
    connects. Raises RetryLater if the cluster is unreachable, Rejected if it could never run a
    trial."""

    def __init__(self, settings: RetrainSettings) -> None:
        assert settings.ray_address is not None
        self._address, self._nice = settings.ray_address, settings.nice
        self._wanted = {"CPU": settings.ray_cpus, "GPU": settings.ray_gpus}
        self._folds: Any = None
        self._champion: Any = None

    def __enter__(self) -> "RayTrials":
        import ray

        def connect() -> None:
            host, _, port = self._address.rpartition(":")
            # Ray would wait half a minute for a head that does not listen.
            socket.create_connection((host, int(port)), timeout=2.0).close()
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR)

        or_later(f"Ray at {self._address}", connect)
        most = {
            name: max((node["Resources"].get(name, 0.0) for node in ray.nodes()), default=0.0)
            for name in self._wanted
        }
        for name, wanted in self._wanted.items():
            if wanted > most[name]:
                ray.shutdown()
                raise Rejected(
                    f"a trial asks for {wanted:g} {name}, and no node of Ray at "
                    f"{self._address} has more than {most[name]:g} (retrain.ray_{name.lower()}s)"
                )
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()

    def __call__(self, orders: Iterable[TrialOrder], folds: Sequence[Fold]) -> Iterator[TrialRun]:
        import ray

        task = ray.remote(_run).options(
            num_cpus=self._wanted["CPU"], num_gpus=self._wanted["GPU"], max_retries=TRIES - 1
        )
        begun, asked = time.monotonic(), list(orders)
        if self._folds is None and asked:
            self._folds = ray.put(list(folds))
            self._champion = ray.put(_files(asked[0].context.champion))
        running = [task.remote(_sent(o), self._folds, self._champion, self._nice) for o in asked]
        for order, reference in zip(asked, running, strict=True):
            left = None if order.left_s is None else order.left_s + GRACE_S
            waited = time.monotonic()
            patience = None if left is None else max(0.0, left - (waited - begun))
            try:
                run = ray.get(reference, timeout=patience)
            except ray.exceptions.GetTimeoutError:  # no node had room for it, or it reports nothing
                run = TrialRun(None)
            except (ray.exceptions.RayError, OSError) as error:
                first = str(error).strip().splitlines() or [type(error).__name__]
                run = TrialRun("failed", error=Rejected(f"its worker died: {first[0]}"))
            # What it took of the budget: others ran at the same time.
            yield replace(run, seconds=time.monotonic() - waited)
            if run.state is None:
                break
        for reference in running:
            ray.cancel(reference, force=True)


def _sent(order: TrialOrder) -> TrialOrder:
    """Without what only this machine has."""
    return replace(order, context=replace(order.context, checkpoints=Path(), champion=None))


def _run(order: TrialOrder, folds: Sequence[Fold], champion: Files, nice: int) -> TrialRun:
    """In a worker, with a folder of its own."""
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "champion"
        place.mkdir()
        for name, content in champion.items():
            (place / name).write_bytes(content)
        context = replace(
            order.context,
            checkpoints=Path(scratch) / "checkpoints",
            champion=place if champion else None,
        )
        run = run_trial(replace(order, context=context), folds)
    if run.error is None:
        return run
    # Errors of users and libraries are not sure to be readable elsewhere.
    return replace(run, error=Rejected(f"{type(run.error).__name__}: {run.error}"))


def _files(folder: Path | None) -> dict[str, bytes]:
    if folder is None:
        return {}
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
