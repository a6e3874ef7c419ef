"""The port of a recipe. `check_recipe` (recipes/check.py) tests whether a recipe follows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.feature_rules import FeatureRule
from driftloop_contracts.kind import Task
from driftloop_contracts.signature import TensorSpec
from driftloop_retrain.tabular.dataset import Dataset


def _silent(fraction: float, loss: float | None) -> None:
    del fraction, loss


@dataclass(frozen=True)
class LabelOf:
    """One of several labels. classes: as in FitContext."""

    task: Task
    classes: NDArray[np.generic] | None = None


@dataclass(frozen=True)
class FitContext:
    """The arguments of a fit.

    inputs: the tensors that the exported graph must accept. classes: the label's values, ascending
    (classification), else None. checkpoints: a folder used only by this fit that survives a kill of
    the process; a repeated fit may resume from its contents. rounds: the training length (trees,
    epochs) without a validation part, which is the `rounds` of the fit that had one. report: may be
    called any number of times with the completed share and the validation loss (or None). champion:
    the folder of the version to beat, whose files training may start from; None: there is none.
    parameters: those of the recipe's `space` to train with, in place of its own. features:
    declared in the spec, which the built-in families make (`encoding.fit_rows`).
    champion_until: the champion was trained on no row after it; None: it is not known.
    labels: of a recipe that trains several labels at once (`joint`), whose rows have them as
    `labels["approve"]`, None or NaN for none; else empty.
    """

    task: Task
    inputs: tuple[TensorSpec, ...]
    seed: int
    checkpoints: Path
    classes: NDArray[np.generic] | None = None
    rounds: int | None = None
    report: Callable[[float, float | None], None] = field(default=_silent)
    champion: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[FeatureRule, ...] = ()
    champion_until: np.datetime64 | None = None
    labels: Mapping[str, LabelOf] = field(default_factory=dict)


class FittedModel(Protocol):
    @property
    def rounds(self) -> int:
        """The training length, for `FitContext.rounds`."""

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        """Return the native model's outputs for n rows, named as in the graph: `label` [n] and
        `probabilities` [n, classes] float32, or `value` [n] float32."""

    def export(self, folder: Path) -> None:
        """Write `model.onnx` (and `model.onnx.data` if needed), including preprocessing, with
        inputs as in the context and outputs as in `predict`. Unknown categories must not fail."""


class Recipe(Protocol):
    """A class without constructor arguments, or an object. A recipe that does not train the same
    model from the same arguments has an attribute `deterministic = False`: `driftloop reproduce`
    then only compares metrics. One with an attribute `space`, parameters by name (`tuning.space`),
    is searched: fits get them as `context.parameters`. `own_parameters` are those that it takes
    without, as far as they lie in the space, and `starts` some that are tried first. One with an
    attribute `joint = True` trains several labels at once: its fit returns a
    `FittedTogether`."""

    @property
    def name(self) -> str: ...

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        """Train on weighted rows; with a validation part, stop when it no longer improves. The same
        arguments give the same model. Any exception fails the retrain, and only that."""
