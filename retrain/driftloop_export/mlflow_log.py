"""An exported model logged into MLflow, from where `driftloop deploy models:/NAME/VERSION` takes
it."""

import os
import tempfile
from pathlib import Path
from typing import Any

import onnx

from driftloop_export.exporting import REFERENCE, SPEC, export
from driftloop_export.native import MODEL
from driftloop_export.port import NotInstalled


def log_model(model: Any, sample: Any, name: str, **options: Any) -> str:
    """Export a model (see `export`, which has the same options but `output`), log it in MLflow's
    active run in its ONNX form, and register it under `name`. Returns `models:/NAME/VERSION`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError:
        raise NotInstalled("log_model needs MLflow: pip install mlflow") from None
    with tempfile.TemporaryDirectory() as scratch:
        made = export(model, sample, name, output=Path(scratch) / "made", **options)
        info = mlflow.onnx.log_model(
            onnx.load(str(made.folder / MODEL)),
            name="model",
            registered_model_name=name,
            extra_files=[str(made.folder / SPEC), str(made.folder / REFERENCE)],
            pip_requirements=["onnxruntime"],
            metadata={"sha256": made.sha256},
        )
    return f"models:/{name}/{info.registered_model_version}"
