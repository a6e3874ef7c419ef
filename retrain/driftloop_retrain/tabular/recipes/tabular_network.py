"""A feed-forward network for tables (torch): embeddings for categories, standardised numbers with
indicators for missing values, early stopping, weight decay, and checkpoints.

After each epoch the state is saved. A killed training resumes from there with the same result,
because the randomness of an epoch depends only on (seed, epoch).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.encoding import Encoding, fit_rows
from driftloop_retrain.tabular.recipes.graph import Classes, head, write_graph
from driftloop_retrain.tabular.recipes.network_graph import network_body
from driftloop_retrain.tabular.recipes.network_layout import (
    HIDDEN,
    Layout,
    forward,
    layout_of,
    network_of,
    prepared,
)
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.tuning.space import Parameters, Space, between, one_of, whole

MAX_EPOCHS, PATIENCE = 16, 6
BATCH = 512
LEARNING_RATE, WEIGHT_DECAY = 5e-3, 1e-3
"""The rate falls along a half cosine, to zero after the recipe's most epochs. A fit without a
validation part goes the same way and stops earlier, so it is the one that was validated. Both give
the mean of the weights over about the last epoch: weights of one moment at a high rate are good on
the validation rows by chance, and those of the final fit are not as good."""

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TabularNetwork:
    """See Recipe."""

    name: str = "tabular-network"
    max_epochs: int = MAX_EPOCHS
    residual: bool = False
    space: ClassVar[Space] = {
        "learning_rate": between(1e-3, 2e-2, log=True),
        "weight_decay": between(1e-5, 1e-1, log=True),
        "dropout": between(0.0, 0.4),
        "noise": between(0.0, 0.3),
        "mixup": one_of(0.0, 0.2),
        "width": one_of(48, 96, 192),
        "layers": whole(1, 3),
    }
    own_parameters: ClassVar[Parameters] = {
        "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, "dropout": 0.0,
        "noise": 0.0, "mixup": 0.0,
        "width": HIDDEN[0], "layers": len(HIDDEN),
    }  # fmt: skip

    def fit(
        self, train: Dataset, validation: Dataset | None, context: FitContext
    ) -> "FittedNetwork":
        import torch

        torch.set_num_threads(1)
        encoding, matrix = fit_rows(train, context)
        shape = self._shape(context.parameters)
        layout = layout_of(encoding, matrix, train.labels, context.classes, shape)
        epochs = context.rounds or self.max_epochs
        whole = max(epochs, self.max_epochs)
        run = NetworkTraining(layout, encoding, (train, matrix), validation, context, whole)
        run.until(epochs, context)
        return FittedNetwork(layout, run.weights(), encoding, context.classes, run.best_epoch)

    def _shape(self, parameters: Parameters) -> dict[str, Any]:
        width = int(parameters.get("width", HIDDEN[0]))
        layers = int(parameters.get("layers", len(HIDDEN)))
        hidden = tuple(max(8, width >> layer) for layer in range(layers))
        if self.residual:
            hidden = (width,) * (2 * layers + 1)
        dropout = float(parameters.get("dropout", 0.0))
        return {"hidden": hidden, "residual": self.residual, "dropout": dropout}


@dataclass(frozen=True)
class ResidualNetwork(TabularNetwork):
    """Pairs of layers are added to what they get."""

    name: str = "residual-network"
    residual: bool = True


class NetworkTraining:
    """The state of a fit after each epoch, loaded from its checkpoint if there is one."""

    def __init__(
        self,
        layout: Layout,
        encoding: Encoding,
        train: tuple[Dataset, NDArray[np.float32]],
        validation: Dataset | None,
        context: FitContext,
        epochs: int,
    ) -> None:
        import torch

        self._epochs = epochs
        self._layout, self._classes = layout, context.classes
        self._file = context.checkpoints / "training.pt"
        self._rows = self._tensors(*train)
        self._held = None
        if validation is not None:
            self._held = self._tensors(validation, encoding.matrix(validation.features))
        torch.manual_seed(context.seed)
        self._network, self._mean = network_of(layout), network_of(layout)
        self._mean.load_state_dict(self._network.state_dict())
        self._rate = float(context.parameters.get("learning_rate", LEARNING_RATE))
        self._noise = float(context.parameters.get("noise", 0.0))
        self._mixup = float(context.parameters.get("mixup", 0.0))
        decay = float(context.parameters.get("weight_decay", WEIGHT_DECAY))
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=self._rate, weight_decay=decay, fused=True
        )
        self.epoch, self.best_epoch = 0, 0
        self.loss: float | None = None
        self._best_loss = float("inf")
        self._best = self._copy()
        if self._file.is_file():
            self._load()

    @property
    def stale(self) -> bool:
        return self._held is not None and self.epoch - self.best_epoch >= PATIENCE

    def until(self, epochs: int, context: FitContext) -> None:
        """Train up to an epoch, or until it no longer helps."""
        while self.epoch < epochs and not self.stale:
            self.advance(context.seed)
            self.save()
            context.report(self.epoch / epochs, self.loss)

    def advance(self, seed: int) -> None:
        """Train one epoch."""
        import torch

        torch.manual_seed(seed * 100_003 + self.epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * (1 + cos(pi * self.epoch / self._epochs)) / 2
        dense, codes, target, weight = self._rows
        order = torch.randperm(len(dense))
        share = min(1.0, BATCH / len(dense))
        for start in range(0, len(dense), BATCH):
            rows = order[start : start + BATCH]
            losses = self._training_losses(dense[rows], codes[rows], target[rows])
            loss = (losses * weight[rows]).sum() / weight[rows].sum()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self._average(share)
        self.epoch += 1
        if self._held is None:
            self._best, self.best_epoch = self._copy(), self.epoch
            return
        dense, codes, target, weight = self._held
        with torch.no_grad():
            losses = self._losses(forward(self._layout, self._mean, dense, codes), target)
        self.loss = float((losses * weight).sum() / weight.sum())
        if self.loss < self._best_loss:
            self._best, self._best_loss, self.best_epoch = self._copy(), self.loss, self.epoch

    def _average(self, share: float) -> None:
        """Move the mean of the weights by this share towards those of now."""
        import torch

        now = self._network.state_dict()
        with torch.no_grad():
            for name, mean in self._mean.state_dict().items():
                mean.lerp_(now[name], share)

    def _training_losses(self, dense: Any, codes: Any, target: Any) -> Any:
        """With noise on the numbers, and rows mixed (Zhang et al., 2018), as the parameters say."""
        import torch

        if self._noise:
            numbers = len(self._layout.numeric)
            shaken = dense[:, :numbers] + self._noise * torch.randn(len(dense), numbers)
            dense = torch.cat([shaken, dense[:, numbers:]], dim=1)
        mix = None
        if self._mixup:
            share = float(torch.distributions.Beta(self._mixup, self._mixup).sample())
            mix = (torch.randperm(len(dense)), share)
        scores = forward(self._layout, self._network, dense, codes, training=True, mix=mix)
        losses = self._losses(scores, target)
        if mix is None:
            return losses
        return mix[1] * losses + (1 - mix[1]) * self._losses(scores, target[mix[0]])

    def save(self) -> None:
        import torch

        state = {
            "network": self._network.state_dict(),
            "mean": self._mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self._best,
            "best_loss": self._best_loss,
            "best_epoch": self.best_epoch,
            "epoch": self.epoch,
            "loss": self.loss,
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._file)

    def _load(self) -> None:
        import torch

        # Only tensors and numbers: the file cannot execute code.
        state = torch.load(self._file, weights_only=True)
        self._network.load_state_dict(state["network"])
        self._mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best, self._best_loss = state["best"], state["best_loss"]
        self.best_epoch, self.epoch, self.loss = state["best_epoch"], state["epoch"], state["loss"]

    def weights(self) -> Weights:
        """Return the mean weights of the best epoch."""
        return {name: np.asarray(tensor.numpy()) for name, tensor in self._best.items()}

    def _copy(self) -> dict[str, Any]:
        return {name: t.detach().clone() for name, t in self._mean.state_dict().items()}

    def _tensors(self, data: Dataset, matrix: NDArray[np.float32]) -> tuple[Any, Any, Any, Any]:
        import torch

        dense, codes = prepared(self._layout, matrix)
        weight = torch.from_numpy(data.weights.astype(np.float32))
        return dense, codes, self._target(data), weight

    def _target(self, data: Dataset) -> Any:
        import torch

        if self._classes is not None:
            return torch.from_numpy(np.searchsorted(self._classes, data.labels))
        scaled = (data.labels.astype(float) - self._layout.center) / self._layout.spread
        return torch.from_numpy(scaled.astype(np.float32))

    def _losses(self, scores: Any, target: Any) -> Any:
        from torch.nn import functional as F

        if self._classes is not None:
            return F.cross_entropy(scores, target, reduction="none")
        return F.mse_loss(scores[:, 0], target, reduction="none")


@dataclass(frozen=True)
class FittedNetwork:
    """See FittedModel."""

    layout: Layout
    weights: Weights
    encoding: Encoding
    classes: Classes
    rounds: int

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        import torch

        network = network_of(self.layout)
        network.load_state_dict({n: torch.from_numpy(w) for n, w in self.weights.items()})
        with torch.no_grad():
            inputs = prepared(self.layout, self.encoding.matrix(features))
            scores = forward(self.layout, network, *inputs).numpy()
        scores = scores * self.layout.spread + self.layout.center
        return head(scores, self.classes, self.encoding.names)

    def export(self, folder: Path) -> None:
        nodes, constants = network_body(self.layout, self.weights)
        write_graph(folder, self.encoding, nodes, constants, self.classes)
