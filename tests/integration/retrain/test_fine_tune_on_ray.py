"""A fine-tune on a Ray cluster of two workers: the steps of one machine, and on from a worker's
death."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import cloudpickle
from ray_head import ray_head
from safetensors.torch import load_file
from tiny_llama import tiny_llama

from driftloop_contracts.errors import Rejected, RetryLater
from driftloop_contracts.language import ADAPTER_WEIGHTS
from driftloop_retrain.language.adapter import weights_hash
from driftloop_retrain.language.adapter_scoring import CANDIDATE, Arms
from driftloop_retrain.language.check import example
from driftloop_retrain.language.lora_dpo import LoraDpo
from driftloop_retrain.language.lora_sft import LoraSft
from driftloop_retrain.language.port import LanguageRecipe, TuneContext, Tuned, TuneData
from driftloop_retrain.language.ray_train import tune_on_ray
from driftloop_retrain.language.tokens import ChatTokens
from driftloop_retrain.language.training import last_checkpoint
from driftloop_settings import TuningSettings
from driftloop_settings.ports import free_port

pytestmark = [pytest.mark.language, pytest.mark.timeout(600)]
SETTINGS = TuningSettings(
    steps=8, epochs=10, rank=4, learning_rate=2e-2, device="cpu",
    threads=1, workers=2, worker_cpus=0.5,
)  # fmt: skip
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker could import this module


class Killed(BaseException):
    """Stands for whatever ends the training's own process."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """HOST:PORT of a Ray head of one CPU in a session of its own."""
    with ray_head() as address:
        yield address


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture
def context(cluster: str, base: Path, tmp_path: Path) -> TuneContext:
    settings = SETTINGS.model_copy(update={"ray_address": cluster})
    return TuneContext(base, None, settings, 1, tmp_path / "checkpoints")


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / ADAPTER_WEIGHTS)


@pytest.mark.parametrize("recipe", [LoraSft(), LoraDpo()], ids=["lora-sft", "lora-dpo"])
def test_two_workers_train_an_adapter_as_one_machine_does(
    recipe: LanguageRecipe, context: TuneContext, tmp_path: Path
) -> None:
    data, told = example(ChatTokens(context.base)), list[float]()
    asked = replace(context, report=lambda done, loss: told.append(done))
    tuned = tune_on_ray(recipe, data, asked, tmp_path / "spread")
    here = replace(context, settings=SETTINGS, checkpoints=tmp_path / "here-checkpoints")
    alone = recipe.tune(data, here, tmp_path / "here")
    assert told
    assert (tuned.steps, tuned.loss) == (alone.steps, pytest.approx(alone.loss, rel=1e-2))
    held = data.validation_answers
    arms = Arms(context.base, {CANDIDATE: tmp_path / "spread"}, SETTINGS)
    assert arms.losses(held, CANDIDATE).mean() < arms.losses(held, None).mean()
    if recipe.name == "lora-sft":  # its loss is a mean over the tokens of all workers
        one, other = weights(tmp_path / "spread"), weights(tmp_path / "here")
        for name, values in one.items():
            assert (values - other[name]).norm() < 0.02 * other[name].norm() + 1e-6, name


class Stops(LoraSft):
    """Its second worker notes its pid half way, once, and dies or stands still."""

    def __init__(self, note: Path, *, dies: bool) -> None:
        self.note, self.dies = note, dies

    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        from ray.train import get_context

        def half_way(done: float, loss: float | None) -> None:
            context.report(done, loss)
            if done < 0.6 or get_context().get_world_rank() == 0 or self.note.exists():
                return
            self.note.write_text(str(os.getpid()))
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Event().wait()

        return super().tune(data, replace(context, report=half_way), folder)


def test_a_training_goes_on_where_a_worker_was_killed_to_the_same_adapter(
    context: TuneContext, tmp_path: Path
) -> None:
    data, note = example(ChatTokens(context.base)), tmp_path / "killed.pid"
    tune_on_ray(Stops(note, dies=True), data, context, tmp_path / "killed")
    assert note.exists()
    whole = replace(context, checkpoints=tmp_path / "whole-checkpoints")
    tune_on_ray(LoraSft(), data, whole, tmp_path / "whole")
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "whole")


def test_workers_end_with_the_training_and_the_next_goes_on(
    context: TuneContext, tmp_path: Path
) -> None:
    data, told = example(ChatTokens(context.base)), list[float]()
    note = tmp_path / "standing.pid"

    def end(done: float, loss: float | None) -> None:
        if note.exists():
            raise Killed

    broken = replace(context, report=end)
    with pytest.raises(Killed):
        tune_on_ray(Stops(note, dies=False), data, broken, tmp_path / "adapter")
    _gone(int(note.read_text()))
    last = last_checkpoint(context.checkpoints)
    assert last is not None
    again = replace(context, report=lambda done, loss: told.append(done))
    assert tune_on_ray(LoraSft(), data, again, tmp_path / "adapter").steps == 8
    assert min(told) > 0.5, "it began from the start"


def _gone(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=60)


class Refuses(LoraSft):
    def tune(self, data: TuneData, context: TuneContext, folder: Path) -> Tuned:
        raise Rejected("the loss is no number")


def test_what_a_worker_refuses_is_said(context: TuneContext, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no number"):
        tune_on_ray(Refuses(), TuneData((), ()), context, tmp_path / "adapter")


def test_a_cluster_that_is_away_is_tried_again_later(context: TuneContext, tmp_path: Path) -> None:
    settings = context.settings.model_copy(update={"ray_address": f"127.0.0.1:{free_port()}"})
    away = replace(context, settings=settings)
    with pytest.raises(RetryLater, match="Ray at"):
        tune_on_ray(LoraSft(), TuneData((), ()), away, tmp_path / "adapter")
