"""Keras models on its torch backend, where a model is a torch module. Its inputs are one matrix of
all columns, or columns by the names of the inputs.

A file of Keras holds no backend, so a model that was trained on another one is loaded on torch.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import Task
from driftloop_export.port import MATRIX, Body, NotExportable, Outputs
from driftloop_export.sample import Sample
from driftloop_export.torch_adapter import Torch

PROBABLE = ("softmax", "sigmoid")
VALUE_LOSSES = ("mean", "mse", "mae", "mape", "msle", "huber", "log_cosh", "poisson", "tweedie")
"""What the names of Keras's losses of a regression begin with."""


class Keras:
    """See Adapter. `classes`: in the order of the last layer; None: 0, 1, …."""

    def __init__(self, classes: Sequence[Any] | None) -> None:
        self._classes = classes

    def columns(self, model: Any) -> Sequence[str] | None:
        names = _names(model)
        return names if len(names) > 1 else None

    def answers(self, model: Any, sample: Sample, task: Task | None) -> Outputs:
        _check(model)
        found = task or ("classification" if self._classes is not None else _task_of(model))
        return self._as_torch(model).answers(_module(model), sample, found)

    def bodies(self, model: Any, sample: Sample, answers: Outputs) -> Iterator[Body]:
        return self._as_torch(model).bodies(_module(model), sample, answers)

    def _as_torch(self, model: Any) -> Torch:
        return Torch(self._classes, logits=_last(model) not in PROBABLE)


def _check(model: Any) -> None:
    import keras

    check_backend(keras.backend.backend())
    if not model.built:
        raise NotExportable(
            "the Keras model has no weights yet: fit it, or build it, before it is exported"
        )


def check_backend(name: str) -> None:
    """Raises NotExportable."""
    if name != "torch":
        raise NotExportable(
            f"the Keras model runs on {name}, and is exported on torch: save it "
            "(model.save('m.keras')), and in a process with KERAS_BACKEND=torch in its environment "
            "export keras.saving.load_model('m.keras'), which has the same weights"
        )


def _names(model: Any) -> list[str]:
    return [tensor.name for tensor in getattr(model, "inputs", None) or ()]


def _last(model: Any) -> str:
    """The name of the last layer's function, such as softmax."""
    layers = getattr(model, "layers", None) or [model]
    activation = getattr(layers[-1], "activation", None)
    return str(getattr(activation, "__name__", type(layers[-1]).__name__)).lower()


def _task_of(model: Any) -> Task:
    """By the last layer, or the loss that the model was compiled with. Raises Rejected."""
    loss = getattr(model, "loss", None)
    words = str(loss if isinstance(loss, str) else getattr(loss, "name", "")).lower()
    if _last(model) in PROBABLE or "crossentropy" in words:
        return "classification"
    if words.startswith(VALUE_LOSSES):
        return "regression"
    raise Rejected(
        "the Keras model's last layer and loss do not say its task: give task='classification' or "
        "'regression'"
    )


def _module(model: Any) -> Any:
    """The model as a torch module whose `forward` takes what the model's inputs are called."""
    import torch

    names = _names(model)
    several = len(names) > 1

    def forward(**given: Any) -> Any:
        return model(given if several else next(iter(given.values())), training=False)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind) for name in (names if several else [MATRIX])]
    vars(forward)["__signature__"] = inspect.Signature(parameters)

    class Answering(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.forward = forward

    return Answering()
