"""The parts of the rows that trials are trained and judged on: the newest rows, several windows of
them, or k random parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.dataset import Dataset, Split
from driftloop_settings import RetrainSettings


@dataclass(frozen=True)
class Fold:
    """fresh_from: the first row of `train` since the change; None: there is none."""

    train: Dataset
    validation: Dataset
    fresh_from: int | None


def folds_of(parts: Split, settings: RetrainSettings) -> tuple[Fold, ...]:
    """`newest`: the validation part of the split. `rolling`: as many windows of its size, each
    trained on all rows before it. `k-fold`: random parts of all rows but the hold-out. Raises
    Rejected if the rows do not suffice."""
    if settings.validation == "newest":
        return (Fold(parts.train, parts.validation, parts.fresh_from),)
    count, rows = settings.validation_splits, parts.fit.rows
    if settings.validation == "k-fold":
        fold_of = np.random.default_rng(settings.seed).permutation(rows) % count
        chosen = [fold_of == number for number in range(count)]
        if rows < 2 * count:
            raise Rejected(f"{rows} rows are too few for {count} folds (retrain.validation_splits)")
    else:
        width = parts.validation.rows
        starts = [rows - width * (count - number) for number in range(count)]
        if starts[0] < width:
            raise Rejected(
                f"{rows} rows are too few for {count} validation windows of {width} "
                "(retrain.validation_splits)"
            )
        at = np.arange(rows)
        chosen = [(at >= start) & (at < start + width) for start in starts]
        # What is newer than a window is not trained on.
        return tuple(_fold(parts, mask, at < at[mask][0]) for mask in chosen)
    return tuple(_fold(parts, mask, ~mask) for mask in chosen)


def _fold(parts: Split, validation: np.ndarray, train: np.ndarray) -> Fold:
    fresh = None
    if parts.fresh_from is not None:
        before = int(train[: parts.fresh_from].sum())
        fresh = before if before < int(train.sum()) else None
    return Fold(parts.fit.where(train), parts.fit.where(validation), fresh)


def together(parts: Sequence[Dataset]) -> Dataset:
    """The rows of all, in this order."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        features=pa.concat_tables([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        at=np.concatenate([part.at for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
    )
