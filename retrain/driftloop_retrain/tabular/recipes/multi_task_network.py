"""A network of several labels (torch): the layers of the tabular network, shared by all outputs,
and a last layer with the scores of each.

Its loss is the mean over outputs of their own, each in units of what the simplest answer loses: the
squared error of standardised values, the cross entropy over the entropy of the classes. A row
counts for the labels that it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.encoding import Encoding, fit_encoding
from driftloop_retrain.tabular.recipes.fitted_together import FittedTogether
from driftloop_retrain.tabular.recipes.network_layout import Layout, layout_of
from driftloop_retrain.tabular.recipes.port import FitContext, LabelOf
from driftloop_retrain.tabular.recipes.tabular_network import (
    FittedNetwork,
    NetworkTraining,
    TabularNetwork,
)

LAST = "layers."


@dataclass(frozen=True)
class Head:
    """The scores of one label: columns from `start` to `stop`. center, spread: of a value. unit:
    the loss of the simplest answer. share: of the training rows that have it."""

    label: str
    of: LabelOf
    start: int
    stop: int
    center: float
    spread: float
    unit: float
    share: float


@dataclass(frozen=True)
class MultiTaskNetwork(TabularNetwork):
    """See Recipe."""

    name: str = "multi-task-network"
    joint: bool = True

    def fit(  # type: ignore[override]
        self, train: Dataset, validation: Dataset | None, context: FitContext
    ) -> FittedTogether:
        import torch

        torch.set_num_threads(1)
        if not context.labels:
            raise Rejected(f"{self.name} trains several labels, and the model has one")
        encoding = fit_encoding(train.features, context.inputs)
        matrix = encoding.matrix(train.features)
        heads = heads_of(train, context.labels)
        shape = self._shape(context.parameters)
        plain = layout_of(encoding, matrix, np.zeros(train.rows), None, shape)
        layout = replace(plain, outputs=heads[-1].stop, center=0.0, spread=1.0)
        epochs = context.rounds or self.max_epochs
        run = _JointTraining(
            heads, layout, encoding, (train, matrix), validation, context,
            max(epochs, self.max_epochs),
        )  # fmt: skip
        run.until(epochs, context)
        weights = run.weights()
        members = {
            head.label: _member(head, layout, weights, encoding, run.best_epoch) for head in heads
        }
        return FittedTogether(members, run.best_epoch)


def heads_of(train: Dataset, labels: Mapping[str, LabelOf]) -> tuple[Head, ...]:
    """Beside each other, in the order of the labels."""
    found: list[Head] = []
    for label, of in labels.items():
        start = found[-1].stop if found else 0
        values = train.label(label)
        if of.classes is None:
            known = values[np.isfinite(values)].astype(float)
            center, spread = float(known.mean()), float(known.std()) or 1.0
            found.append(
                Head(label, of, start, start + 1, center, spread, 1.0, len(known) / len(values))
            )
            continue
        chosen = [value for value in values if value is not None]
        shares = np.unique(np.array(chosen), return_counts=True)[1] / len(chosen)
        entropy = float(-(shares * np.log(shares)).sum())
        share, stop = len(chosen) / len(values), start + len(of.classes)
        found.append(Head(label, of, start, stop, 0.0, 1.0, max(entropy, 1e-3), share))
    return tuple(found)


class _JointTraining(NetworkTraining):
    def __init__(self, heads: tuple[Head, ...], *arguments: Any) -> None:
        self._heads = heads
        super().__init__(*arguments)

    def _target(self, data: Dataset) -> Any:
        """[n, labels]: the place of the class, or the standardised value; NaN: the row has none."""
        import torch

        columns = []
        for head in self._heads:
            values = data.label(head.label)
            if head.of.classes is None:
                columns.append((values.astype(float) - head.center) / head.spread)
                continue
            places = {value: float(place) for place, value in enumerate(head.of.classes.tolist())}
            columns.append(np.array([places.get(value, np.nan) for value in values.tolist()]))
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    def _losses(self, scores: Any, target: Any) -> Any:
        import torch
        from torch.nn import functional as F

        total = torch.zeros(len(scores))
        for number, head in enumerate(self._heads):
            part, wanted = scores[:, head.start : head.stop], target[:, number]
            known = ~torch.isnan(wanted)
            wanted = torch.where(known, wanted, torch.zeros_like(wanted))
            if head.of.classes is None:
                losses = F.mse_loss(part[:, 0], wanted, reduction="none")
            else:
                losses = F.cross_entropy(part, wanted.long(), reduction="none")
            weight = head.unit * head.share * len(self._heads)
            total = total + torch.where(known, losses, torch.zeros_like(losses)) / weight
        return total


def _member(
    head: Head,
    layout: Layout,
    weights: Mapping[str, NDArray[np.float32]],
    encoding: Encoding,
    rounds: int,
) -> FittedNetwork:
    """The network with one label's scores."""
    last = max(int(name.split(".")[1]) for name in weights if name.startswith(LAST))
    own = {
        name: values[head.start : head.stop] if name.startswith(f"{LAST}{last}.") else values
        for name, values in weights.items()
    }
    width = head.stop - head.start
    alone = replace(layout, outputs=width, center=head.center, spread=head.spread)
    return FittedNetwork(alone, own, encoding, head.of.classes, rounds)
