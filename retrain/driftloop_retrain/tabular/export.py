"""The folder of a version: `model.onnx`, and `reference.parquet` with rows it was not trained
on."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluate import Outputs

REFERENCE = "reference.parquet"


def write_reference(folder: Path, holdout: Dataset, outputs: Outputs, max_rows: int) -> Path:
    """The newest rows of the hold-out with what the model answers to them, as the lake has them:
    `in_…`, `out_…`, `label` (JSON text), `label_number` (null for texts)."""
    start = max(0, holdout.rows - max_rows)
    rows = holdout.slice(start, holdout.rows)
    columns = {INPUT_PREFIX + name: rows.features[name] for name in rows.features.column_names}
    for name, values in outputs.items():
        columns[OUTPUT_PREFIX + name] = _column(values[start:])
    labels = rows.labels.tolist()
    columns["label"] = pa.array([json.dumps(label) for label in labels], pa.string())
    columns["label_number"] = pa.array(
        [None if isinstance(label, str) else float(label) for label in labels], pa.float64()
    )
    path = folder / REFERENCE
    pq.write_table(pa.table(columns), path)
    return path


def _column(values: NDArray[np.generic]) -> pa.Array:
    if values.ndim == 1:
        return (
            pa.array(values.tolist(), pa.string()) if values.dtype == object else pa.array(values)
        )
    return pa.array(
        list(values.reshape(len(values), -1)), pa.list_(pa.from_numpy_dtype(values.dtype))
    )
