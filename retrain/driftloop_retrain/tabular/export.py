"""The folder of a version: `model.onnx`, and `reference.parquet` with rows that it was not trained
on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from driftloop_export.reference import reference_table
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluate import Outputs

REFERENCE = "reference.parquet"


def write_reference(folder: Path, holdout: Dataset, outputs: Outputs, max_rows: int) -> Path:
    """Write the newest rows of the hold-out with the model's outputs, in the lake's format: `in_…`,
    `out_…`, `label` (JSON text), `label_number` (null for texts)."""
    start = max(0, holdout.rows - max_rows)
    newest = {name: values[start:] for name, values in outputs.items()}
    path = folder / REFERENCE
    pq.write_table(answered_rows(holdout.slice(start, holdout.rows), newest), path)
    return path


def answered_rows(rows: Dataset, outputs: Outputs) -> pa.Table:
    """Rows with what a model answers to them, [n] or [n, …] an output, as the lake has them."""
    return reference_table(rows.features, outputs, rows.label_values)
