"""How a candidate treats groups of rows: those that the spec declares as slices. Rates with their
intervals, so that a difference between groups is seen beside its noise."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.slices import slices_of
from driftloop_retrain.tabular.evaluation.intervals import mean, share

MIN_ROWS = 30


def groups(
    spec: ModelSpec,
    rows: pa.Table,
    losses: NDArray[np.float64],
    positive: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None,
) -> list[dict[str, Any]]:
    """rows [n]: as the lake has them. positive: of two classes, which rows are answered and which
    are labelled positive. By group: the mean loss, and the shares of rows called positive, of
    positives missed and of negatives called positive."""
    found = []
    for part in slices_of(spec, rows, MIN_ROWS).found:
        inside = part.holds(rows)
        loss = mean(losses[inside])
        group: dict[str, Any] = {"group": part.name, "rows": int(inside.sum())}
        group |= {
            "loss": loss.get("mean"),
            "loss_low": loss.get("low"),
            "loss_high": loss.get("high"),
        }
        if positive is not None:
            called, true = (each[inside] for each in positive)
            rates = {
                "called_positive": share(int(called.sum()), len(called)),
                "missed": share(int((~called & true).sum()), int(true.sum())),
                "false_positives": share(int((called & ~true).sum()), int((~true).sum())),
            }
            for name, rate in rates.items():
                group |= {name: rate.get("mean")}
                group |= {f"{name}_{end}": rate.get(end) for end in ("low", "high")}
        found.append(group)
    return found
