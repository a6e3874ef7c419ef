"""The true labels of a sample's rows, in the type of the model's answers."""

from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_export.port import Outputs


def label_values(labels: Any, rows: int, answers: Outputs) -> list[Any]:
    """One for each row: str or int for classes, float for values. Raises Rejected."""
    found = np.asarray(labels).reshape(-1)
    if len(found) != rows:
        raise Rejected(f"there are {len(found):,} labels for {rows:,} rows of the sample")
    values = found.tolist()
    missing = [row for row, value in enumerate(values) if value is None or value != value]
    if missing:
        raise Rejected(
            f"row {missing[0]} of {len(missing):,} has no label: leave such rows out of the sample"
        )
    if "value" in answers:
        if found.dtype.kind not in "fiub":
            raise Rejected(f"the model predicts numbers, and the labels are {found.dtype}")
        return [float(value) for value in values]
    texts = answers["label"].dtype == object
    if texts != isinstance(values[0], str):
        kind = "texts" if texts else "whole numbers"
        raise Rejected(f"the model's classes are {kind}, and the first label is {values[0]!r}")
    return values if texts else [int(value) for value in values]
