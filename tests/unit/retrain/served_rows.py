"""Rows of a data set as the lake has them once a model has answered them."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from driftloop_contracts.events import FIXED_COLUMNS
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.inference import outputs_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MODEL = "loans"


def archived(data: Dataset, champion: OnnxModel) -> pa.Table:
    """The rows as served by the champion, one a second up to NOW, each with its label."""
    count = data.rows
    start = NOW - timedelta(seconds=count)
    at = [start + timedelta(seconds=i) for i in range(count)]
    fixed = {
        "prediction_id": [f"p{i}" for i in range(count)],
        "row": [0] * count,
        "version": [1] * count,
        "arm": ["stable"] * count,
        "predicted_at": at,
        "replica": ["r"] * count,
        "sequence": list(range(count)),
        "latency_s": [0.01] * count,
        "error": [None] * count,
        "routing_key_hash": [None] * count,
        "trace_id": [None] * count,
    }
    columns = {f.name: pa.array(fixed[f.name], f.type) for f in FIXED_COLUMNS}
    columns |= {f"in_{name}": data.features[name] for name in data.features.column_names}
    for name, values in outputs_of(champion, data.features).items():
        columns[f"out_{name}"] = pa.array(list(values))
    columns["label"] = pa.array([json.dumps(label) for label in data.label_values])
    several = data.labels.dtype.names is not None
    columns["label_number"] = pa.array(
        np.full(count, np.nan) if several else data.labels.astype(float), from_pandas=True
    )
    columns["label_at"] = pa.array(at, pa.timestamp("us", tz="UTC"))
    return pa.table(columns)
