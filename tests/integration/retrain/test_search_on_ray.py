"""A search whose trials run on a Ray cluster."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ray import cloudpickle
from ray_head import ray_head

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.tabular.dataset import Dataset, input_tensors, split
from driftloop_retrain.tabular.recipes import FitContext, FittedModel, between
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.search import Found, search
from driftloop_retrain.tabular.tuning.space import Space
from driftloop_settings import RetrainSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker could import this module


class Deadly(GradientBoosting):
    """One of its starts kills the process that trains it, each time."""

    space: ClassVar[Space] = {"num_leaves": between(4.0, 30.0)}
    starts = ({"num_leaves": 8}, {"num_leaves": 13}, {"num_leaves": 20})

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:  # type: ignore[override]
        if context.parameters.get("num_leaves") == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(train, validation, context)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with ray_head(cpus=2) as address:
        yield address


def found(recipe: GradientBoosting, folder: Path, address: str | None, **more: float) -> Found:
    data = example("classification", rows=600)
    said = RetrainSettings(
        budget_s=200, trials=3, trials_at_once=3, ray_address=address, ensemble=1, **more
    )
    context = FitContext(
        "classification", input_tensors(data.features), 0, folder, classes=np.unique(data.labels)
    )
    spec = ModelSpec("m", "classification", "label")
    return search(spec, split(data, said, None), [recipe], context, lambda *_: None, said)


def test_trials_on_a_cluster_are_those_of_this_machine_and_a_dead_worker_costs_one(
    cluster: str, tmp_path: Path
) -> None:
    here = found(GradientBoosting(), tmp_path / "here", None)
    there = found(GradientBoosting(), tmp_path / "there", cluster)
    assert [t.parameters for t in there.trials] == [t.parameters for t in here.trials]
    assert [t.mean_loss for t in there.trials] == [t.mean_loss for t in here.trials]
    deadly = found(Deadly(), tmp_path / "deadly", cluster)
    assert [t.parameters.get("num_leaves") for t in deadly.trials] == [None, 8, 20]
    ((reason, count),) = deadly.record["failed"].items()
    assert count == 1
    assert "its worker died" in reason
    with pytest.raises(Rejected, match="asks for 64 CPU, and no node"):
        found(GradientBoosting(), tmp_path / "large", cluster, ray_cpus=64)
