"""Weights of an ensemble: the trials that together answer best on the validation rows. Pure."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.graph_names import probabilities_of
from driftloop_retrain.tabular.evaluate import Outputs

PICKS = 8
"""Weights are multiples of its inverse."""


def combined(
    outputs: Sequence[Outputs], weights: Sequence[float], classes: NDArray[np.generic] | None
) -> dict[str, NDArray[np.generic]]:
    """The weighted mean of probabilities [n, classes] or values [n], and the most probable class in
    place of the labels."""
    found: dict[str, NDArray[np.generic]] = {}
    for name, first in outputs[0].items():
        if first.dtype.kind == "f":
            parts = (
                np.float32(w) * each[name].astype(np.float32)
                for each, w in zip(outputs, weights, strict=True)
            )
            found[name] = np.sum(list(parts), axis=0, dtype=np.float32)
    for name in outputs[0]:
        if name not in found:
            assert classes is not None
            (best,) = (values for values in found.values() if values.ndim == 2)
            found[name] = classes[best.argmax(axis=1)]
    return found


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
