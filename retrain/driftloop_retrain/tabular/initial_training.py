"""Trains the first version of a model from a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from driftloop_contracts.graph_names import PREDICTION_SET, output_name
from driftloop_contracts.model import ModelSpec, check_new_name, class_name
from driftloop_contracts.objective import Objective
from driftloop_contracts.signature import check_width
from driftloop_evaluation.chosen_objective import chosen_objective
from driftloop_retrain.tabular.candidate import classes_of, make_candidate, with_classes
from driftloop_retrain.tabular.csv_file import FOUND, CsvForm
from driftloop_retrain.tabular.data_checks import checked
from driftloop_retrain.tabular.data_warnings import data_warnings
from driftloop_retrain.tabular.dataset import from_file, input_tensors, split
from driftloop_retrain.tabular.export import REFERENCE
from driftloop_retrain.tabular.first_files import folder_made, keep, said_once
from driftloop_retrain.tabular.postprocessing.interval import ENDS
from driftloop_retrain.tabular.recipes import find_recipe, recipe_names
from driftloop_retrain.tabular.recipes.recipe_catalogue import TABULAR
from driftloop_retrain.tabular.several.first_training import (
    tasks_by_label,
    tasks_said,
    train_first_together,
)
from driftloop_settings import Settings

__all__ = ["tasks_by_label", "tasks_said", "train_first"]

OUTPUTS = 3
"""The most outputs of a recipe's graph."""
MODEL, SPEC = "model.onnx", "model.yaml"


def train_first(
    settings: Settings,
    data: Path,
    *,
    name: str,
    label: str | Sequence[str],
    task: str | Mapping[str, str],
    output: Path,
    time_column: str | None,
    drop: tuple[str, ...],
    families: tuple[str, ...],
    say: Callable[[str], None],
    form: CsvForm = FOUND,
) -> dict[str, Any]:
    """Train on a file and write `model.yaml`, `model.onnx` and `reference.parquet` into `output`,
    for `driftloop deploy`. Returns the paths, the winning family, its metrics on the hold-out, what
    it is judged by and why, and warnings about the size of the data.

    label: the column to predict, or several, which become the outputs of one model. task: of all,
    or by label, where classification is the default. Raises Rejected if the file or its columns are
    not suitable."""
    check_new_name(name)
    labels = [label] if isinstance(label, str) else list(label)
    tasks = tasks_by_label(labels, task)
    if len(tasks) > 1:
        spec, made = train_first_together(
            settings,
            data,
            name=name,
            tasks=tasks,
            output=output,
            time_column=time_column,
            drop=drop,
            families=families,
            say=say,
            form=form,
        )
        return _written(output, spec) | made
    ((label, kind),) = tasks.items()
    names = recipe_names(TABULAR, families, settings.retrain.families)
    recipes = [find_recipe(family) for family in names]
    read = from_file(data, kind, label, time_column, drop, form, say)
    rows, found = checked(read, kind, {}, settings.retrain)
    answer = "label" if kind == "classification" else "value"
    spec = ModelSpec(name, kind, output_name(answer, rows.features.column_names), TABULAR)
    inputs = input_tensors(rows.features)
    check_width(len(inputs) + OUTPUTS)
    judged_by = "judged by its squared error"
    if kind == "regression" and settings.retrain.interval is not None:
        spec = _with_interval(spec, settings.retrain.interval, rows.features.column_names)
        judged_by += f", and by whether its interval covers {settings.retrain.interval:.0%}"
    if kind == "classification":
        objective, judged_by = chosen_objective(map(class_name, rows.labels.tolist()))
        spec = replace(spec, objective=objective)
        if settings.retrain.prediction_set is not None:
            spec = _with_set(spec, settings.retrain.prediction_set, rows.features.column_names)
            judged_by += f", and by whether its set covers {settings.retrain.prediction_set:.0%}"
        spec = with_classes(spec, classes_of(spec, rows))
    say(judged_by)
    parts = split(rows, settings.retrain, None)
    warnings = [*found.warnings, *data_warnings(parts, kind)]
    for warning in warnings:
        say(f"warning: {warning}")
    with folder_made(output) as work:
        candidate = make_candidate(
            settings,
            spec,
            inputs,
            parts,
            recipes,
            classes_of(spec, rows),
            work,
            said_once(say),
        )
        keep(candidate.folder, output)
    return _written(output, spec) | {
        "family": candidate.found.best.family,
        "metrics": candidate.metrics,
        "judged_by": judged_by,
        "rows": rows.rows,
        "warnings": warnings,
        "left_out": dict(found.left_out),
        "trials": [trial.to_dict() for trial in candidate.found.trials],
    }


def _written(output: Path, spec: ModelSpec) -> dict[str, Any]:
    document = spec.to_dict() | {"model": MODEL, "reference": REFERENCE}
    (output / SPEC).write_text(yaml.safe_dump(document, sort_keys=False))
    return {"spec": str(output / SPEC)}


def _with_set(spec: ModelSpec, coverage: float, columns: list[str]) -> ModelSpec:
    """As `_with_interval`."""
    name = output_name(PREDICTION_SET, columns)
    return replace(
        spec,
        guardrails=(Objective(metric="set_coverage", output=name),),
        policy={"retrain": {"prediction_set": coverage}},
    )


def _with_interval(spec: ModelSpec, coverage: float, columns: list[str]) -> ModelSpec:
    """With the coverage as a guardrail, which monitor, gate and canary watch; and for retrains."""
    lower, upper = (output_name(end, columns) for end in ENDS)
    return replace(
        spec,
        guardrails=(Objective(metric="coverage", lower=lower, upper=upper),),
        policy={"retrain": {"interval": coverage}},
    )
