"""The tabular network: what it is apart from its weights, and how it computes scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.tabular.recipes.encoding import Encoding
from driftloop_retrain.tabular.recipes.graph import Classes

HIDDEN = (96, 48)


@dataclass(frozen=True)
class Layout:
    """The properties of a network apart from its weights. numeric: matrix columns [k]; mean, std:
    [k]; embeddings: matrix column → (categories + 1, width), row 0 for unknown; outputs: number of
    classes, or 1; center, spread: of the value in a regression. hidden: the widths of the layers;
    residual: all but the first are pairs that are added to what they get. dropout: in training."""

    numeric: tuple[int, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    embeddings: Mapping[int, tuple[int, int]]
    outputs: int
    center: float = 0.0
    spread: float = 1.0
    hidden: tuple[int, ...] = HIDDEN
    residual: bool = False
    dropout: float = 0.0

    @property
    def width(self) -> int:
        """The size of the first layer's input: numbers, their missing indicators, embeddings."""
        return 2 * len(self.numeric) + sum(width for _, width in self.embeddings.values())


def layout_of(
    encoding: Encoding,
    matrix: NDArray[np.float32],
    targets: NDArray[np.generic],
    classes: Classes,
    shape: Mapping[str, Any],
) -> Layout:
    """matrix, targets: of the training rows. shape: hidden, residual, dropout."""
    categorical = encoding.categorical
    numeric = tuple(i for i in range(encoding.width) if i not in categorical)
    values = matrix[:, list(numeric)].astype(float)
    known = np.isfinite(values)
    count = np.maximum(1, known.sum(axis=0))
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    std = np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=0) / count)
    embeddings = {
        column: (kinds + 1, min(16, 2 + kinds // 2)) for column, kinds in categorical.items()
    }
    mean, std = mean.astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32)
    # A column dropped by capture has no values in training but has in requests: dividing by NaN
    # makes it missing there, too.
    std[~known.any(axis=0)] = np.nan
    if classes is not None:
        return Layout(numeric, mean, std, embeddings, len(classes), **shape)
    labels = targets.astype(float)
    center, spread = float(labels.mean()), float(labels.std()) or 1.0
    return Layout(numeric, mean, std, embeddings, 1, center, spread, **shape)


def network_of(layout: Layout) -> Any:
    """A network with random weights."""
    from torch import nn

    sizes = (layout.width, *layout.hidden, layout.outputs)
    tables = {
        str(column): nn.Embedding(count, width, padding_idx=0)
        for column, (count, width) in layout.embeddings.items()
    }
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return nn.ModuleDict({"tables": nn.ModuleDict(tables), "layers": nn.ModuleList(layers)})


def prepared(layout: Layout, matrix: NDArray[np.float32]) -> tuple[Any, Any]:
    """Return numbers with indicators [n, 2k], and category codes [n, categories] with 0 for
    unknown."""
    import torch

    numbers = (matrix[:, list(layout.numeric)] - layout.mean) / layout.std
    missing = np.isnan(numbers)
    dense = np.concatenate([np.where(missing, 0.0, numbers), missing], axis=1).astype(np.float32)
    codes = matrix[:, list(layout.embeddings)].astype(np.int64) + 1
    return torch.from_numpy(dense), torch.from_numpy(codes)


def forward(
    layout: Layout,
    network: Any,
    dense: Any,
    codes: Any,
    *,
    training: bool = False,
    mix: tuple[Any, float] | None = None,
) -> Any:
    """Return the scores [n, outputs]. mix: each row is mixed with that of a permutation [n]; the
    share of its own."""
    import torch

    parts = [dense]
    for i, table in enumerate(network["tables"].values()):
        parts.append(table(codes[:, i]))
    hidden = torch.cat(parts, dim=1)
    if mix is not None:
        hidden = mix[1] * hidden + (1 - mix[1]) * hidden[mix[0]]

    def dropped(values: Any) -> Any:
        return torch.dropout(values, layout.dropout, training)

    *inner, last = network["layers"]
    if not layout.residual:
        for layer in inner:
            hidden = dropped(torch.relu(layer(hidden)))
        return last(hidden)
    hidden = inner[0](hidden)
    for first, second in zip(inner[1::2], inner[2::2], strict=True):
        hidden = hidden + second(dropped(torch.relu(first(hidden))))
    return last(torch.relu(hidden))
