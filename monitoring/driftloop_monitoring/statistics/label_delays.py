"""How long labels took, of the newest rows that were judged by them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LABEL_DELAYS = 100
"""Enough for a median and a 90th percentile to show, few enough to be part of a state."""


def newest_delays(before: tuple[float | None, ...], rows: pa.Table) -> tuple[float | None, ...]:
    """With those of rows in order of time, of which an even sample is taken. rows: `predicted_at`,
    and `label_at`, null without a label; rows whose labels have no time change nothing."""
    if "label_at" not in rows.column_names:
        return before
    taken = np.linspace(0, rows.num_rows - 1, min(rows.num_rows, LABEL_DELAYS)).astype(int)
    some = rows.take(pa.array(taken)) if rows.num_rows else rows
    micros = pc.cast(pc.subtract(some["label_at"], some["predicted_at"]), pa.int64())
    found = [None if m is None else round(max(0, m) / 1e6, 1) for m in micros.to_pylist()]
    return (*before, *found)[-LABEL_DELAYS:]
