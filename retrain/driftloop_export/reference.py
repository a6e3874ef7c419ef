"""Rows with what the model answered to them, as the lake has them: what live traffic is compared
with."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX


def reference_table(
    features: pa.Table, outputs: Mapping[str, Any], labels: Sequence[Any] | None
) -> pa.Table:
    """`in_…`, `out_…` and, for known labels, `label` (JSON text) and `label_number` (null for
    texts and for several labels, which are dicts). `outputs`: arrays [n] or [n, …] by the names of
    the graph's outputs."""
    columns = {INPUT_PREFIX + name: features[name] for name in features.column_names}
    columns |= {OUTPUT_PREFIX + name: _column(values) for name, values in outputs.items()}
    if labels is not None:
        columns["label"] = pa.array([json.dumps(label) for label in labels], pa.string())
        columns["label_number"] = pa.array(
            [None if isinstance(label, str | dict) else float(label) for label in labels],
            pa.float64(),
        )
    return pa.table(columns)


def _column(values: Any) -> pa.Array:
    if values.ndim == 1:
        return (
            pa.array(values.tolist(), pa.string()) if values.dtype == object else pa.array(values)
        )
    return pa.array(
        list(values.reshape(len(values), -1)), pa.list_(pa.from_numpy_dtype(values.dtype))
    )
