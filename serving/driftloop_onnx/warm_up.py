"""Prepares a graph for traffic: warms it up, and checks whether requests may share a run.

A graph may mix the rows of a run, for example by a normalisation over the batch or a quantisation
with one scale for the whole tensor. An answer would then depend on concurrent requests. Rows of
synthetic inputs are therefore run alone and together, and the answers compared.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from driftloop_onnx.graph import Graph
from driftloop_onnx.made_up import Arrays, made_up
from driftloop_onnx.model import OnnxModel
from driftloop_onnx.options import BackendOptions

log = structlog.get_logger()

ROWS = 8
RTOL, ATOL = 1e-3, 1e-5
"""The allowed difference between rows run alone and together; kernels round differently for
different sizes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A graph that is ready for traffic. `why_not_batched`: None if requests may share a run.
    `file_bytes`: of the graph with its weights."""

    model: Graph
    options: BackendOptions
    why_not_batched: str | None = None
    file_bytes: int = 0


def load(path: Path | str, options: BackendOptions) -> Loaded:
    """Load the graph in a file or folder. Raises Rejected as `OnnxModel` does. A graph that fails
    on synthetic inputs is still ready, but its runs are not shared unless the options say so."""
    began = time.monotonic()
    model = OnnxModel(path, options)
    rows = min(ROWS, options.max_batch_rows)
    try:
        for _ in range(options.warm_up):
            for size in (1, rows):
                model.run(made_up(model.signature, size))
    except Exception as error:  # the inputs are synthetic: no request failed
        log.info("model.warm_up_refused", error=str(error)[:200])
    loaded = Loaded(model, options, _why_not_batched(model, options), _file_bytes(Path(path)))
    log.info(
        "model.loaded",
        path=str(path),
        seconds=round(time.monotonic() - began, 3),
        why_not_batched=loaded.why_not_batched,
    )
    return loaded


def _file_bytes(path: Path) -> int:
    files = list(path.iterdir()) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.suffix != ".parquet")  # a reference


def _why_not_batched(model: OnnxModel, options: BackendOptions) -> str | None:
    if options.batching == "off":
        return "batching is off"
    for tensor in model.signature.inputs:
        if not tensor.free_rows:
            return f"input {tensor.name!r} has no free first dimension"
    return mixes_rows(model) if options.batching == "auto" else None


def mixes_rows(model: OnnxModel) -> str | None:
    """Return why a row's answer may depend on the other rows of its run; None if synthetic rows are
    answered alike alone and together."""
    inputs = made_up(model.signature, ROWS)
    try:
        together = model.run(inputs)
        alone = [model.run(_row(inputs, row)) for row in range(ROWS)]
    except Exception:
        return "the graph failed on synthetic inputs, so its rows may depend on each other"
    for name, whole in together.items():
        parts = [answer[name] for answer in alone]
        if any(part.shape[:1] != (1,) for part in parts) or whole.shape[:1] != (ROWS,):
            return f"output {name!r} does not have a row for each row of the inputs"
        if not _alike(np.concatenate(parts), whole):
            return f"output {name!r} of a row depends on the other rows in the run"
    return None


def _row(inputs: Arrays, row: int) -> Arrays:
    return {name: values[row : row + 1] for name, values in inputs.items()}


def _alike(alone: np.ndarray, together: np.ndarray) -> bool:
    if alone.shape != together.shape:
        return False
    if alone.dtype.kind == "f":
        return np.allclose(alone, together, RTOL, ATOL, equal_nan=True)
    return bool(np.array_equal(alone, together))
