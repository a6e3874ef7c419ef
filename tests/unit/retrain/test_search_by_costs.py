"""Trials are judged with the label that costs least, which the winner's graph has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, split
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.search import search
from driftloop_settings import RetrainSettings

DEAR = Objective(metric="cost", false_positive=1.0, false_negative=19.0)


@dataclass(frozen=True)
class Said:
    """The probability of class 1, below and above the middle of x."""

    low: float
    high: float
    rounds: int = 1

    def predict(self, features: pa.Table) -> dict[str, Any]:
        x = features["x"].to_numpy()
        p = np.where(x < 0.5, self.low, self.high).astype(np.float32)
        probabilities = np.stack([1 - p, p], axis=1)
        return {"label": probabilities.argmax(axis=1), "probabilities": probabilities}

    def export(self, folder: Path) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Always:
    name: str
    model: Said

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> Said:
        return self.model


def winner(folder: Path, decide: str) -> str:
    random = np.random.default_rng(0)
    x = random.random(6_000).astype(np.float32)
    labels = (random.random(6_000) < np.where(x < 0.5, 0.001, 0.2)).astype(np.int64)
    at = np.arange(6_000).astype("datetime64[us]")
    rows = dataset_of(pa.table({"x": x}), labels, at, "made up")
    settings = RetrainSettings(budget_s=0, decide=decide)  # type: ignore[arg-type]
    # The first calls many rows positive by its likeliest class, and knows nothing of rows.
    recipes = [Always("blunt", Said(0.6, 0.6)), Always("sharp", Said(0.001, 0.2))]
    spec = ModelSpec("m", "classification", "label", classes=("0", "1"), objective=DEAR)
    context = FitContext("classification", (), 0, folder, classes=np.array([0, 1]))
    parts = split(rows, settings, None)
    return search(spec, parts, recipes, context, lambda *_: None, settings).best.family


def test_a_model_that_knows_probabilities_wins_by_its_threshold(tmp_path: Path) -> None:
    """Both never differ by the likeliest class in favour of the sharp one."""
    assert winner(tmp_path / "costs", "costs") == "sharp"
    assert winner(tmp_path / "likeliest", "likeliest") == "blunt"
