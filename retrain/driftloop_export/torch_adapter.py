"""torch modules over numbers: `forward` takes a matrix of all columns, or columns by their names,
each [n, 1]. It gives values, or the logits of classes: [n, classes], or [n] of the second of two.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.kind import Task
from driftloop_export.boosted import answers_of
from driftloop_export.classes import classes_from
from driftloop_export.port import MATRIX, Body, NotExportable, Outputs
from driftloop_export.sample import Sample
from driftloop_export.torch_trace import (
    BEST,
    PROBABILITIES,
    both_probabilities,
    labelled,
    probabilities_of_logits,
    traced,
)

TRACED_ROWS = 4


class Torch:
    """See Adapter. `classes`: in the order of the logits; None: 0, 1, …. logits: whether the module
    gives them, or probabilities in their place."""

    def __init__(self, classes: Sequence[Any] | None, logits: bool = True) -> None:
        self._classes = None if classes is None else classes_from(classes)
        self._probabilities = probabilities_of_logits if logits else both_probabilities

    def columns(self, _model: Any) -> Sequence[str] | None:
        return None

    def answers(self, model: Any, sample: Sample, task: Task | None) -> Outputs:
        import torch

        if task is None and self._classes is None:
            raise Rejected(
                "a torch module does not say its task: give task='classification' or 'regression'"
            )
        tensors = _tensors(model, sample)
        try:
            with torch.no_grad():
                found = model.eval()(**tensors)
        except Exception as error:  # torch and the user's own code raise whatever they like
            raise Rejected(
                f"the model does not answer the sample's columns ({listed(sample.columns)}): "
                f"{_reason(error)}"
            ) from error
        if not isinstance(found, torch.Tensor):
            raise NotExportable(
                f"forward gives a {type(found).__name__}: let it give one tensor, the logits or "
                "the values"
            )
        if found.ndim > 2 or found.ndim == 0 or len(found) != sample.rows:
            raise NotExportable(
                f"forward gives the shape {list(found.shape)} for {sample.rows} rows: let it give "
                "[n] or [n, classes]"
            )
        if task == "regression":
            if found.numel() != sample.rows:
                raise NotExportable(f"forward gives {found.shape[1]} values a row: export one")
            return answers_of(found.numpy(), None)
        probabilities = self._probabilities(found).numpy()
        return answers_of(probabilities, self._known(probabilities.shape[1]))

    def bodies(self, model: Any, sample: Sample, answers: Outputs) -> Iterator[Body]:
        graph = _graph(model, sample, self._probabilities if "label" in answers else None)
        if "value" in answers:
            yield Body(graph, {"value": graph.graph.output[0].name})
            return
        classes = self._known(answers["probabilities"].shape[1])
        yield labelled(graph, classes)

    def _known(self, width: int) -> NDArray[np.generic]:
        if self._classes is None:
            return np.arange(width, dtype=np.int64)
        if len(self._classes) != width:
            raise Rejected(f"`classes` has {len(self._classes)}, and forward gives {width}")
        return self._classes


def _reason(error: Exception) -> str:
    """The last line; of Keras's, without colours, and before the arguments that it lists."""
    said = re.sub(r"\x1b\[\d*m", "", str(error).partition("Arguments received")[0])
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]


def _tensors(model: Any, sample: Sample, rows: int | None = None) -> dict[str, Any]:
    """What forward is called with: its parameters are columns, or the first of them the matrix."""
    import torch

    if sample.has_texts:
        name = next(tensor.name for tensor in sample.inputs if tensor.datatype == "BYTES")
        raise NotExportable(
            f"the column {name!r} holds texts, which a torch module does not take; give their "
            "codes as whole numbers"
        )
    number = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    parameters = list(inspect.signature(model.forward).parameters.values())
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    feeds = {name: values[:rows] for name, values in sample.feeds().items()}
    if needed and set(needed) <= set(feeds):
        chosen = [p.name for p in parameters if p.name in feeds]
        found = {name: torch.from_numpy(feeds[name]) for name in chosen}
        return {n: t.to(number) if t.is_floating_point() else t for n, t in found.items()}
    if len(needed) != 1:
        raise Rejected(
            f"forward takes {', '.join(needed)}; it must take columns of the sample "
            f"({', '.join(sample.columns)}) by their names, or one matrix"
        )
    matrix = np.concatenate([values.astype(np.float64) for values in feeds.values()], axis=1)
    return {needed[0]: torch.from_numpy(matrix).to(number)}


def _graph(model: Any, sample: Sample, probabilities_of: Callable[[Any], Any] | None) -> Any:
    """probabilities_of: from what a classifier gives; None: it is a regression."""
    import torch

    class Answering(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            found = self.model(**dict(zip(names, tensors, strict=True)))
            if probabilities_of is None:
                return found.reshape(-1)
            probabilities = probabilities_of(found)
            return probabilities.argmax(dim=1), probabilities

    tensors = _tensors(model, sample, TRACED_ROWS)
    names = list(tensors)
    inputs = names if set(names) <= set(sample.columns) else [MATRIX]
    outputs = ["our_value"] if probabilities_of is None else [BEST, PROBABILITIES]
    return traced(Answering(), dict(zip(inputs, tensors.values(), strict=True)), outputs, (0,))
