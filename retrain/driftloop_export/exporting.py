"""A trained model becomes a folder that `driftloop deploy` takes.

It is called in the process that trained the model: nothing is unpickled, and the native model is at
hand to be compared with.
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.file_hash import sha256_of
from driftloop_contracts.graph_names import output_name
from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec, check_new_name, class_name
from driftloop_contracts.objective import parse_objectives
from driftloop_evaluation.chosen_objective import chosen_objective
from driftloop_export.comparison import Agreement
from driftloop_export.labels import label_values, labelled_objective, labels_by_row
from driftloop_export.native import MODEL, Native
from driftloop_export.reference import reference_table
from driftloop_export.several import label_columns, native_of_several, output_names
from driftloop_onnx import OnnxModel

REFERENCE, SPEC, RECORD = "reference.parquet", "model.yaml", "export.json"
MAX_REFERENCE_ROWS = 20_000


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
    task: str | Mapping[str, str] | None = None,
    objective: Any = None,
    *,
    classes: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    recipe: str | None = None,
    outputs: Sequence[str] = (),
) -> Exported:
    """Write `model.onnx`, `model.yaml`, `reference.parquet` and `export.json` into `output`.

    model: a trained model, or a dict of one for each label, {"approve": …, "amount": …}.
    sample: a pandas or polars frame, an arrow table or a dict of arrays: rows that the model was
    not trained on, best a few thousand. Its columns name the inputs. The graph must answer every
    row as the model does: equal labels, and values within 1e-5 (relative above 1).
    labels: the true labels of these rows, if known; with them the loss is watched from the start.
    Several a row are a dict of arrays, a frame or a list of dicts; None or NaN: there is none.
    task: classification or regression, for a torch module, which does not say; `classes`: its
    classes, in the order of its outputs (default 0, 1, …). With several labels, both by label.
    objective: written into `model.yaml` as it is; without one, labels with a rare class suggest one
    that sees it, as `driftloop train` and `deploy` do. recipe: how it is retrained; None: never.
    outputs: the names of a model's several labels in its order, if `labels` do not say them.
    Raises Rejected: the sample does not fit the model, the model or a step has no form as a graph,
    a package is missing, or a row differs, with the rows and the likely cause.
    """
    check_new_name(name)
    folder = Path(output)
    columns = label_columns(labels) if labels is not None else None
    if columns and len(columns) == 1 and not isinstance(model, Mapping):
        labels, columns = next(iter(columns.values())), None
    named = list(outputs or columns or (task if isinstance(task, Mapping) else ()))
    if isinstance(model, Mapping) or named:
        made = _several(model, sample, name, named, columns, task, classes, objective, folder)
    else:
        made = _one(model, sample, name, labels, task, classes, objective, folder)
    newest = max(0, made.agreement.rows - MAX_REFERENCE_ROWS)
    pq.write_table(made.reference.slice(newest), folder / REFERENCE)
    digest = sha256_of(folder / MODEL)
    spec = replace(made.spec, recipe=recipe)
    _write_spec(folder, spec, made.objective, digest, type(model), made.why)
    agreement = made.agreement
    assert spec.task is not None
    exported = Exported(
        folder, name, spec.task, agreement.rows, agreement.largest_difference, digest
    )
    record = {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "sha256": digest,
        "rows_compared": exported.rows,
        "largest_difference": exported.largest_difference,
        "environment": environment(),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return exported


@dataclass(frozen=True, slots=True)
class _Made:
    """What was written, and what is to be said of it. objective: as in `model.yaml`."""

    spec: ModelSpec
    objective: Any
    why: str
    agreement: Agreement
    reference: pa.Table


def _one(
    model: Any,
    sample: Any,
    name: str,
    labels: Any,
    task: Any,
    classes: Any,
    objective: Any,
    folder: Path,
) -> _Made:
    native = Native(model, task, classes)
    rows = native.sample(sample)
    answers = native.answers(rows)
    found: Task = "classification" if "label" in answers else "regression"
    known = None if labels is None else label_values(labels, rows.rows, answers)
    main = output_name("label" if found == "classification" else "value", rows.columns)
    agreement, outputs = native.write(rows, answers, folder)
    suggested, why = objective, ""
    if objective is None and known is not None and found == "classification":
        chosen, why = chosen_objective(map(class_name, known))
        suggested = chosen and chosen.to_dict()
    reference = reference_table(rows.table, outputs, known)
    return _Made(ModelSpec(name, found, main), suggested, why, agreement, reference)


def _several(
    model: Any,
    sample: Any,
    name: str,
    named: list[str],
    columns: Mapping[str, Any] | None,
    task: Any,
    classes: Any,
    objective: Any,
    folder: Path,
) -> _Made:
    for said, what in ((task, "task"), (classes, "classes")):
        if said is not None and not isinstance(said, Mapping):
            raise Rejected(f"{what}: say it by label, such as {{'approve': …}}")
    native = native_of_several(model, named, sample, task, classes)
    rows = native.sample(sample)
    answers = native.answers(rows)
    known = None if columns is None else labels_by_row(columns, rows.rows, answers)
    tasks = native.tasks_of(answers)
    if objective is not None:
        _check_labels(objective, tasks)
    agreement, outputs = native.write(rows, answers, folder)
    names = output_names(tasks, rows.columns)
    objectives, whys = [], []
    for label, kind in tasks.items():
        main = names[label]["label" if kind == "classification" else "value"]
        found, why = labelled_objective(label, kind, main, answers[label], known)
        objectives.append(found.to_dict())
        whys.append(f"{label}: {why}")
    first = next(iter(tasks))
    spec = ModelSpec(name, tasks[first], objectives[0]["output"])
    reference = reference_table(rows.table, outputs, known)
    if objective is not None:
        return _Made(spec, objective, "", agreement, reference)
    return _Made(spec, objectives, "; ".join(whys), agreement, reference)


def _check_labels(objective: Any, tasks: Mapping[str, Task]) -> None:
    """Raises Rejected for an objective of a label that no model answers."""
    for each in parse_objectives(objective):
        if each.label not in tasks:
            raise Rejected(
                f"objective {each.metric!r}: its `label` is {each.label!r}, and the model answers "
                f"{listed(tasks)}"
            )


def _write_spec(
    folder: Path, spec: ModelSpec, objective: Any, digest: str, kind: type, why: str
) -> None:
    signature = OnnxModel(folder / MODEL).signature.to_dict()
    document = {k: v for k, v in spec.to_dict().items() if v not in (None, [], {})}
    document |= {"model": MODEL, "reference": REFERENCE, "signature": signature}
    if objective is not None:
        document["objective"] = objective
    versions = ", ".join(f"{name} {version}" for name, version in environment().items())
    head = f"# Exported from a {kind.__name__}. {MODEL}: sha256 {digest}.\n# {versions}\n"
    head += f"# {why}\n" if why else ""
    (folder / SPEC).write_text(head + yaml.safe_dump(document, sort_keys=False))


def environment() -> dict[str, str]:
    """The versions of what a graph is made of, as far as they are installed."""
    return {"python": platform.python_version(), **dict(_versions())}


def _versions() -> Iterator[tuple[str, str]]:
    names = (
        "scikit-learn",
        "lightgbm",
        "xgboost",
        "xgboost-cpu",
        "catboost",
        "torch",
        "transformers",
        "tokenizers",
    )
    for name in (*names, "skl2onnx", "onnx", "onnxruntime", "numpy"):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
