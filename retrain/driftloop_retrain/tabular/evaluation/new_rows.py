"""What is new in the data against those of the champion."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_retrain.tabular.columns import numbers
from driftloop_retrain.tabular.dataset import Dataset

MOST_COLUMNS = 10


def new_rows(data: Dataset, until: np.datetime64 | None) -> dict[str, Any]:
    """As JSON; {} if it is not known which rows the champion was trained on. until: it was trained
    on no row after it. columns: those that moved most, as the distance between the distributions of
    the newer and of the older rows: 0 if they are equal, 1 if they have no value in common."""
    if until is None:
        return {}
    new = data.at > until
    found: dict[str, Any] = {"rows": int(new.sum()), "share": float(new.mean())}
    if not new.any() or new.all():
        return found
    distances = {
        field.name: _distance(data.features[field.name], new)
        for field in data.features.schema
        if not pa.types.is_nested(field.type)
    }
    ranked = sorted(distances.items(), key=lambda item: (-item[1], item[0]))
    found["columns"] = [
        {"column": name, "distance": distance} for name, distance in ranked[:MOST_COLUMNS]
    ]
    return found


def _distance(column: pa.ChunkedArray, new: NDArray[np.bool_]) -> float:
    """Of numbers the largest difference of the distribution functions (Kolmogorov and Smirnov), in
    which a missing one is larger than any other; of texts the total variation."""
    if pa.types.is_string(column.type):
        codes = pc.fill_null(column, "").combine_chunks().dictionary_encode().indices.to_numpy()
        kinds = int(codes.max(initial=0)) + 1
        shares = [np.bincount(codes[side], minlength=kinds) / side.sum() for side in (new, ~new)]
        return float(np.abs(shares[0] - shares[1]).sum() / 2)
    values = np.asarray(numbers(column), np.float64)
    values = np.where(np.isnan(values), np.inf, values)
    order = np.argsort(values, kind="stable")
    steps = np.where(new, 1 / new.sum(), -1 / (~new).sum())[order].cumsum()
    last = np.append(values[order][1:] != values[order][:-1], True)
    return float(np.abs(steps[last]).max())
