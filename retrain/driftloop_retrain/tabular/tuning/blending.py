"""Weights of an ensemble: the trials that together answer best on the validation rows. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.graph_names import probabilities_of
from driftloop_retrain.tabular.evaluate import Outputs

PICKS = 8
"""Weights are multiples of its inverse."""


Joining = Literal["mean", "product"]
TINY = 1e-7


def combined(
    outputs: Sequence[Outputs],
    weights: Sequence[float],
    classes: NDArray[np.generic] | None,
    joining: Joining = "mean",
) -> dict[str, NDArray[np.generic]]:
    """The weighted sum of values [n]; of probabilities [n, classes] that of themselves, or the
    product that the sum of their logarithms stands for; and the most probable class in place of the
    labels."""
    found: dict[str, NDArray[np.generic]] = {}
    for name, first in outputs[0].items():
        if first.dtype.kind == "f":
            values = [each[name].astype(np.float32) for each in outputs]
            logs = joining == "product" and first.ndim == 2
            if logs:
                values = [np.log(np.maximum(each, np.float32(TINY))) for each in values]
            parts = [np.float32(w) * each for each, w in zip(values, weights, strict=True)]
            total = np.asarray(np.sum(parts, axis=0), np.float32)
            found[name] = _softmax(total) if logs else total
    for name in outputs[0]:
        if name not in found:
            assert classes is not None
            (best,) = (values for values in found.values() if values.ndim == 2)
            found[name] = classes[best.argmax(axis=1)]
    return found


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)


def can_be_combined(outputs: Outputs, classes: NDArray[np.generic] | None) -> bool:
    """Whether these have what `combined` needs."""
    if classes is None:
        return all(values.dtype.kind == "f" for values in outputs.values())
    probabilities = probabilities_of(outputs)
    return (
        len(outputs) == 2
        and probabilities is not None
        and probabilities.shape[1:] == (len(classes),)
    )


def blended(
    outputs: Mapping[int, Outputs],
    loss: Callable[[Outputs], float],
    classes: NDArray[np.generic] | None,
    most: int,
) -> dict[int, float]:
    """Weights by trial, at most `most` of them: each step adds the trial that lowers the loss of
    the mean the most (Caruana et al., 2004). outputs: those of each, the best first."""
    picked: list[int] = []
    for _ in range(PICKS):
        open_ = picked if len({*picked}) >= most else outputs
        scores = {
            number: loss(_mean(outputs, [*picked, number], classes))
            for number in dict.fromkeys(open_)
        }
        picked.append(min(scores, key=lambda number: scores[number]))
    return {number: picked.count(number) / PICKS for number in dict.fromkeys(picked)}


def _mean(
    outputs: Mapping[int, Outputs], picked: Sequence[int], classes: NDArray[np.generic] | None
) -> Outputs:
    names = list(dict.fromkeys(picked))
    weights = [picked.count(name) / len(picked) for name in names]
    return combined([outputs[name] for name in names], weights, classes)
