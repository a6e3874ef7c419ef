"""What an adapter of a framework gives: graphs, and what the native model answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import Task
from driftloop_contracts.signature import TensorSpec
from driftloop_export.sample import Sample

Outputs = Mapping[str, NDArray[np.generic]]
"""`label` [n] and, if the model has them, `probabilities` [n, classes]; or `value` [n]."""
MATRIX = "matrix"
"""The one input of a graph over all columns beside each other."""


class NotExportable(Rejected):
    """The model, or a step of it, has no form as a graph. The message names it and the way out."""


class NotInstalled(Rejected):
    """A package that exports this kind of model is missing. The message names it."""


@dataclass(frozen=True)
class Body:
    """A graph as a framework's converter gives it. `model`: an ONNX model; its inputs are the
    sample's columns, each [n, 1], or MATRIX [n, k] alone, in whatever types it wants. `outputs`:
    which of its outputs is which of Outputs. `inputs`: of a graph behind a step that the file's
    `metadata` declares, in place of the columns. `renamed`: the body's name of each column that it
    calls by another one, since not every converter takes any text for a name."""

    model: Any
    outputs: Mapping[str, str]
    inputs: tuple[TensorSpec, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


class Adapter(Protocol):
    """One framework. Its module imports the framework when it is used, not before."""

    def columns(self, model: Any, /) -> Sequence[str] | None:
        """The columns that the model was trained on, in order; None if it does not say."""

    def answers(self, model: Any, sample: Sample, task: Task | None, /) -> Outputs:
        """What the native model answers to all rows of the sample. `task`: as the user said."""

    def bodies(self, model: Any, sample: Sample, answers: Outputs, /) -> Iterator[Body]:
        """The model as graphs, the most exact first: the first that agrees with `answers` in every
        row is taken. Raises NotExportable."""
