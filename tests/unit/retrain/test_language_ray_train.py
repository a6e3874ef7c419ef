"""What is decided before a fine-tune goes to a Ray cluster."""

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_retrain.language.adapter import device_of, on_this_machine
from driftloop_retrain.language.lora_sft import LoraSft
from driftloop_retrain.language.ray_train import check_spread, worker_settings
from driftloop_settings import TuningSettings

SPREAD = TuningSettings(ray_address="head:6379", workers=2)


class OfOneProcess(LoraSft):
    distributed = False


def test_workers_must_share_a_batch_evenly() -> None:
    check_spread(LoraSft(), SPREAD)
    with pytest.raises(Rejected, match="multiple of tuning"):
        check_spread(LoraSft(), SPREAD.model_copy(update={"workers": 3}))


def test_a_recipe_that_does_not_know_of_workers_is_refused() -> None:
    with pytest.raises(Rejected, match="distributed = True"):
        check_spread(OfOneProcess(), SPREAD)


@pytest.mark.parametrize(
    ("wanted", "gpus", "found"),
    [("auto", 2, "cuda"), ("auto", 1, "cpu"), ("cuda", 0, "cuda"), ("cpu", 8, "cpu")],
)
def test_a_worker_has_a_gpu_where_it_was_asked_for_or_all_can(
    wanted: str, gpus: float, found: str
) -> None:
    settings = SPREAD.model_copy(update={"device": wanted})
    assert worker_settings(settings, gpus).device == found


def test_a_worker_has_the_threads_that_it_asks_ray_for_and_trains_where_it_is() -> None:
    settings = worker_settings(SPREAD.model_copy(update={"worker_cpus": 2.5}), 0)
    assert (settings.threads, settings.ray_address) == (2, "")
    assert worker_settings(SPREAD.model_copy(update={"worker_cpus": 0.5}), 0).threads == 1


def test_a_gpu_of_the_cluster_need_not_be_on_this_machine() -> None:
    settings = on_this_machine(SPREAD.model_copy(update={"device": "cuda"}))
    assert (settings.device, settings.workers) == ("cuda", 2)
    assert device_of(settings) in ("cpu", "cuda")


def test_without_a_cluster_there_is_one_worker() -> None:
    assert on_this_machine(TuningSettings(workers=4)).workers == 1


def test_an_address_is_host_and_port() -> None:
    with pytest.raises(ValueError, match="ray_address"):
        TuningSettings(ray_address="ray://head:10001")
