"""A trained model with steps behind its answers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_retrain.tabular.postprocessing.graph_tail import append_steps
from driftloop_retrain.tabular.postprocessing.interval import Interval
from driftloop_retrain.tabular.postprocessing.prediction_set import PredictionSet
from driftloop_retrain.tabular.postprocessing.steps import Steps
from driftloop_retrain.tabular.recipes.port import FittedModel


@dataclass(frozen=True)
class PostProcessed:
    """See FittedModel."""

    model: FittedModel
    steps: Steps | Interval | PredictionSet

    @property
    def rounds(self) -> int:
        return self.model.rounds

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        return self.steps.apply(self.model.predict(features))

    def export(self, folder: Path) -> None:
        self.model.export(folder)
        append_steps(folder, self.steps)


def with_steps(model: FittedModel, steps: Steps | Interval | PredictionSet | None) -> FittedModel:
    return model if steps is None or steps.none else PostProcessed(model, steps)
