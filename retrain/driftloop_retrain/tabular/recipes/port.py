"""What a recipe is. `check_recipe` (recipes/check.py) says whether one keeps to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.kind import Task
from driftloop_contracts.signature import TensorSpec
from driftloop_retrain.tabular.dataset import Dataset


def _silent(fraction: float, loss: float | None) -> None:
    del fraction, loss


@dataclass(frozen=True)
class FitContext:
    """inputs: the tensors that the exported graph must take. classes: the label's values, ascending
    (classification), else None. checkpoints: a folder that only this fit uses and that outlives a
    killed process: the same fit called again may go on from what it finds there. rounds: how long
    to train if there is no validation part (trees, epochs): the `rounds` of the fit that had
    one.
    report: told (share done, validation loss or None) as often as one likes."""

    task: Task
    inputs: tuple[TensorSpec, ...]
    seed: int
    checkpoints: Path
    classes: NDArray[np.generic] | None = None
    rounds: int | None = None
    report: Callable[[float, float | None], None] = field(default=_silent)


class FittedModel(Protocol):
    @property
    def rounds(self) -> int:
        """How long it was trained, for `FitContext.rounds`."""

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        """The native model's answers for n rows, by output name as in the graph: `label` [n] and
        `probabilities` [n, classes] float32, or `value` [n] float32."""

    def export(self, folder: Path) -> None:
        """Write `model.onnx` (and `model.onnx.data` if it must): preprocessing inside, inputs as in
        the context, outputs as in `predict`. A category never seen must not fail."""


class Recipe(Protocol):
    """A class without constructor arguments, or an object. One that cannot train the same model
    from the same arguments has an attribute `deterministic = False`: `driftloop reproduce` then
    compares metrics only."""

    @property
    def name(self) -> str: ...

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        """Train on weighted rows; with a validation part, stop when it no longer gets better. The
        same arguments give the same model. Whatever is raised fails the retrain, and only that."""
