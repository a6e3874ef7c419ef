"""A trained model becomes a folder that `driftloop deploy` takes.

It is called in the process that trained the model: nothing is unpickled, and the native model is at
hand to be compared with.
"""

import hashlib
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pyarrow.parquet as pq
import yaml

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import output_name
from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec, check_new_name
from driftloop_export.adapters import adapter_of
from driftloop_export.comparison import Agreement, Differs, compare
from driftloop_export.graph import assembled
from driftloop_export.labels import label_values
from driftloop_export.port import Adapter, NotExportable, Outputs
from driftloop_export.reference import reference_table
from driftloop_export.sample import Sample, sample_of
from driftloop_onnx import OnnxModel

MODEL, REFERENCE, SPEC, RECORD = "model.onnx", "reference.parquet", "model.yaml", "export.json"
MAX_REFERENCE_ROWS = 20_000
BATCH_ROWS = 8_192
_TASKS = ("classification", "regression")


@dataclass(frozen=True, slots=True)
class Exported:
    """folder: with what `driftloop deploy` takes. rows: of the sample, all of which agreed;
    largest_difference: of a value or probability among them, relative above 1."""

    folder: Path
    name: str
    task: Task
    rows: int
    largest_difference: float
    sha256: str


def export(
    model: Any,
    sample: Any,
    name: str,
    labels: Any = None,
    output: str | Path = "exported",
    task: str | None = None,
    objective: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    recipe: str | None = None,
) -> Exported:
    """Write `model.onnx`, `model.yaml`, `reference.parquet` and `export.json` into `output`.

    sample: a pandas or polars frame, an arrow table or a dict of arrays: rows that the model was
    not trained on, best a few thousand. Its columns name the inputs. The graph must answer every
    row as the model does: equal labels, and values within 1e-5 (relative above 1).
    labels: the true labels of these rows, if known; with them the loss is watched from the start.
    task: classification or regression, for a torch module, which does not say; `classes`: its
    classes, in the order of its outputs (default 0, 1, …).
    objective: written into `model.yaml` as it is. recipe: how it is retrained; None: never.
    Raises Rejected: the sample does not fit the model, the model or a step has no form as a graph,
    a package is missing, or a row differs, with the rows and the likely cause.
    """
    check_new_name(name)
    if task not in (None, *_TASKS):
        raise Rejected(f"task {task!r}: it is classification or regression")
    adapter = adapter_of(model, classes)
    rows = sample_of(sample, adapter.columns(model))
    answers = adapter.answers(model, rows, cast("Task | None", task))
    found: Task = "classification" if "label" in answers else "regression"
    if task not in (None, found):
        raise Rejected(f"the model does {found}, not {task}")
    known = None if labels is None else label_values(labels, rows.rows, answers)
    main = output_name("label" if found == "classification" else "value", rows.columns)
    spec = ModelSpec(name, found, main, recipe)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made, agreement, outputs = _agreeing(adapter, model, rows, answers, Path(scratch))
        made.replace(folder / MODEL)
    newest = max(0, rows.rows - MAX_REFERENCE_ROWS)
    table = reference_table(rows.table, outputs, known).slice(newest)
    pq.write_table(table, folder / REFERENCE)
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    _write_spec(folder, spec, objective, digest, type(model))
    exported = Exported(folder, name, found, agreement.rows, agreement.largest_difference, digest)
    record = {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "sha256": digest,
        "rows_compared": exported.rows,
        "largest_difference": exported.largest_difference,
        "environment": environment(),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return exported


def _agreeing(
    adapter: Adapter, model: Any, sample: Sample, answers: Outputs, scratch: Path
) -> tuple[Path, Agreement, Mapping[str, Any]]:
    """The first graph that answers as the model does, and its outputs for the sample."""
    reason: NotExportable | None = None
    bodies = adapter.bodies(model, sample, answers)
    names = {name: output_name(name, sample.columns) for name in answers}
    while True:
        try:
            body = next(bodies)
        except StopIteration:
            break
        except NotExportable as error:
            raise (reason or error) from None
        path = scratch / MODEL
        try:
            onnx.save(assembled(body, sample.inputs, answers), path)
            graph = _outputs(OnnxModel(path), sample)
            ours = {name: graph[target] for name, target in names.items()}
            agreement = compare(sample, answers, ours)
        except Differs as error:
            reason = error if not isinstance(reason, Differs) else reason
        except NotExportable:
            raise
        except Rejected as error:  # it cannot be loaded
            reason = reason or NotExportable(f"the converted graph does not load: {error}")
        except Exception as error:  # onnx and onnxruntime raise whatever they like
            first = str(error).strip().splitlines() or [type(error).__name__]
            reason = reason or NotExportable(f"the converted graph does not run: {first[0]}")
        else:
            return path, agreement, {names[name]: values for name, values in ours.items()}
    raise reason or NotExportable("the model has no form as a graph")


def _outputs(graph: OnnxModel, sample: Sample) -> dict[str, np.ndarray]:
    feeds = sample.feeds()
    parts = [
        graph.run({name: values[start : start + BATCH_ROWS] for name, values in feeds.items()})
        for start in range(0, sample.rows, BATCH_ROWS)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _write_spec(folder: Path, spec: ModelSpec, objective: Any, digest: str, kind: type) -> None:
    signature = OnnxModel(folder / MODEL).signature.to_dict()
    document = {k: v for k, v in spec.to_dict().items() if v not in (None, [], {})}
    document |= {"model": MODEL, "reference": REFERENCE, "signature": signature}
    if objective is not None:
        document["objective"] = objective
    versions = ", ".join(f"{name} {version}" for name, version in environment().items())
    head = f"# Exported from a {kind.__name__}. {MODEL}: sha256 {digest}.\n# {versions}\n"
    (folder / SPEC).write_text(head + yaml.safe_dump(document, sort_keys=False))


def environment() -> dict[str, str]:
    """The versions of what a graph is made of, as far as they are installed."""
    return {"python": platform.python_version(), **dict(_versions())}


def _versions() -> Iterator[tuple[str, str]]:
    names = ("scikit-learn", "lightgbm", "xgboost", "xgboost-cpu", "catboost", "torch")
    for name in (*names, "skl2onnx", "onnx", "onnxruntime", "numpy"):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
