"""Trains on a Ray cluster (`tuning.ray_address`): each worker runs the recipe on its share of every
batch, and torch.distributed combines them into one step. Only this module uses ray.train.

Base, start adapter, checkpoints and result are in folders that every node has at the same path. The
training belongs to this process: if it is killed, Ray ends the workers, and the next call resumes
from the last checkpoint. Ray's own retry after the death of a worker does the same.
"""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from driftloop_contracts.errors import DriftloopError, Rejected
from driftloop_retrain.language.port import LanguageRecipe, TuneContext, Tuned, TuneData
from driftloop_retrain.record.pinning import or_later
from driftloop_settings import TuningSettings

MAX_FAILURES = 3
"""How many times the workers are restarted after any of them died or raised."""
PROGRESS = "progress.json"
POLL_S = 0.5


def tune_on_ray(
    recipe: LanguageRecipe, data: TuneData, context: TuneContext, folder: Path
) -> Tuned:
    """Train like `recipe.tune`. Raises Rejected if recipe or settings are not suitable, RetryLater
    if the cluster is unreachable, WorkerGroupError with the workers' last errors."""
    check_spread(recipe, context.settings)
    context.checkpoints.mkdir(parents=True, exist_ok=True)
    progress = context.checkpoints.resolve() / PROGRESS
    progress.unlink(missing_ok=True)
    with _cluster(context.settings.ray_address) as gpus:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
        from ray.train.torch import TorchTrainer

        settings = worker_settings(context.settings, gpus)
        theirs = replace(
            context,
            base=context.base.resolve(),
            settings=settings,
            start=None if context.start is None else context.start.resolve(),
            checkpoints=progress.parent,
            report=_Written(progress),
        )
        place, on_gpu = folder.resolve(), settings.device == "cuda"

        def work() -> Tuned:
            return recipe.tune(data, theirs, place)

        trainer = TorchTrainer(
            work,
            scaling_config=ScalingConfig(
                num_workers=settings.workers,
                use_gpu=on_gpu,
                resources_per_worker={"CPU": settings.worker_cpus} | ({"GPU": 1} if on_gpu else {}),
            ),
            run_config=RunConfig(
                storage_path=str(progress.parent / "ray"),
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        pool = ThreadPoolExecutor(1)
        try:
            training = pool.submit(trainer.fit)
            while wait([training], POLL_S).not_done:
                _tell(progress, context.report)
            _tell(progress, context.report)
            return cast("Tuned", training.result().return_value)
        except WorkerGroupError as error:
            for failure in error.worker_failures.values():
                cause = getattr(failure, "_base_exc", failure)
                if isinstance(cause, DriftloopError):
                    raise cause from error
            raise
        finally:
            ray.shutdown()  # first, because it ends a training that `report` aborted
            pool.shutdown()


def check_spread(recipe: LanguageRecipe, settings: TuningSettings) -> None:
    """Raises Rejected unless recipe and settings are suitable for several workers."""
    if not getattr(recipe, "distributed", False):
        raise Rejected(
            f"the recipe {recipe.name!r} does not set `distributed = True`: unset "
            "tuning.ray_address, or see driftloop_retrain/language/port.py"
        )
    if settings.batch % settings.workers:
        raise Rejected(
            f"tuning.batch is {settings.batch}, which {settings.workers} workers "
            "cannot share evenly: make it a multiple of tuning.workers"
        )


def worker_settings(settings: TuningSettings, gpus: float) -> TuningSettings:
    """Return the settings of a worker on a cluster with this number of GPUs."""
    enough = gpus >= settings.workers
    device = settings.device
    if device == "auto":
        device = "cuda" if enough else "cpu"
    return settings.model_copy(
        update={
            "ray_address": "",
            "device": device,
            "threads": settings.threads or max(1, int(settings.worker_cpus)),
        }
    )


@contextmanager
def _cluster(address: str) -> Iterator[float]:
    """Connect, and yield the number of GPUs in the cluster. Raises RetryLater."""
    import ray

    def connect() -> None:
        host, _, port = address.rpartition(":")
        # Ray would wait half a minute for a head that does not listen.
        socket.create_connection((host, int(port)), timeout=2.0).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)

    or_later(f"Ray at {address}", connect)
    try:
        yield float(ray.cluster_resources().get("GPU", 0.0))
    finally:
        ray.shutdown()


class _Written:
    """Writes the progress of the first worker to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, done: float, loss: float | None) -> None:
        from ray.train import get_context

        if get_context().get_world_rank() == 0:
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps([done, loss]))
            part.replace(self._path)


def _tell(path: Path, report: Callable[[float, float | None], None]) -> None:
    try:
        done, loss = json.loads(path.read_text())
    except (OSError, ValueError):
        return
    report(done, loss)
