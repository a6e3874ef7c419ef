"""Trains the first version of a model with several labels from a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import check_feature_names
from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_contracts.objective import Objective
from driftloop_contracts.signature import check_width
from driftloop_evaluation.chosen_objective import chosen_objective
from driftloop_export.several import output_names
from driftloop_retrain.tabular.csv_file import FOUND, CsvForm
from driftloop_retrain.tabular.data_warnings import data_warnings
from driftloop_retrain.tabular.dataset import Dataset, input_tensors, split
from driftloop_retrain.tabular.first_files import folder_made, keep, said_once
from driftloop_retrain.tabular.recipes import find_recipe, recipe_names
from driftloop_retrain.tabular.recipes.recipe_catalogue import TABULAR
from driftloop_retrain.tabular.several.candidate import make_together
from driftloop_retrain.tabular.several.data import (
    checked_together,
    classes_together,
    from_file_together,
    partly,
)
from driftloop_retrain.tabular.several.labels import part_of, split_of
from driftloop_retrain.tabular.several.outputs import Classes, new_outputs, with_label_classes
from driftloop_settings import Settings


def train_first_together(
    settings: Settings,
    data: Path,
    *,
    name: str,
    tasks: Mapping[str, Task],
    output: Path,
    time_column: str | None,
    drop: tuple[str, ...],
    families: tuple[str, ...],
    say: Callable[[str], None],
    form: CsvForm = FOUND,
) -> tuple[ModelSpec, dict[str, Any]]:
    """As `train_first`, with a task for each label: the spec, and what is returned of it."""
    names = recipe_names(TABULAR, families, settings.retrain.families, several=True)
    recipes = [find_recipe(family) for family in names]
    check_feature_names(tasks)
    read = from_file_together(data, tasks, time_column, drop, form, say)
    rows, found = checked_together(read, tasks, {}, settings.retrain)
    if sentence := partly(rows, tasks):
        say(sentence)
    classes = classes_together(rows, tasks)
    inputs = input_tensors(rows.features)
    spec, whys = first_spec(name, tasks, rows, classes)
    outputs = with_label_classes(new_outputs(spec, rows.features.column_names), classes)
    check_width(len(inputs) + 2 * len(outputs))
    for why in whys:
        say(why)
    parts = split(rows, settings.retrain, None)
    warnings = list(found.warnings)
    for label, task in tasks.items():
        own = split_of(parts, label)
        warnings += [f"label {label!r}: {warning}" for warning in data_warnings(own, task)]
    if settings.retrain.interval is not None or settings.retrain.prediction_set is not None:
        warnings.append(
            "retrain.interval and retrain.prediction_set are for models of one label: this one has "
            "neither"
        )
    for warning in warnings:
        say(f"warning: {warning}")
    with folder_made(output) as work:
        candidate = make_together(
            settings, spec, outputs, inputs, parts, recipes, classes, work, said_once(say)
        )
        keep(candidate.folder, output)
    say(candidate.found.words)
    return spec, {
        "family": candidate.found.family,
        "metrics": candidate.metrics,
        "judged_by": "; ".join(whys),
        "rows": rows.rows,
        "labelled": dict(found.labelled),
        "warnings": warnings,
        "left_out": dict(found.left_out),
        "chosen": dict(candidate.found.record),
        "trials": [
            {"label": label, **trial.to_dict()}
            for label, trials in candidate.found.trials.items()
            for trial in trials
        ],
    }


def first_spec(
    name: str, tasks: Mapping[str, Task], rows: Dataset, classes: Mapping[str, Classes]
) -> tuple[ModelSpec, list[str]]:
    """With one decisive metric for each label, and why it is that one."""
    names = output_names(tasks, rows.features.column_names)
    objectives, whys = [], []
    for label, task in tasks.items():
        known = classes[label]
        if known is None:
            metric, why = "squared", "judged by its squared error"
        else:
            chosen, why = chosen_objective(map(class_name, part_of(rows, label).labels.tolist()))
            metric = chosen.metric if chosen else "error"
        main = names[label]["label" if task == "classification" else "value"]
        values = () if known is None else tuple(known.tolist())
        objectives.append(Objective(metric=metric, label=label, output=main, classes=values))
        whys.append(f"{label}: {why}")
    first = objectives[0]
    spec = ModelSpec(name, tasks[str(first.label)], first.output, TABULAR)
    return replace(spec, objective=first, further=tuple(objectives[1:])), whys


def tasks_said(said: Sequence[str]) -> str | dict[str, str]:
    """The tasks as options name them: one for all labels, or `LABEL=TASK` of one. Raises
    Rejected."""
    pairs = [text.rpartition("=") for text in said]
    for_all = [task for label, _, task in pairs if not label]
    if len(for_all) > 1 or (for_all and len(pairs) > 1):
        raise Rejected(
            f"--task {for_all[0]}: name one task for all labels, or LABEL=TASK for each that is "
            "not a classification"
        )
    return for_all[0] if for_all else {label: task for label, _, task in pairs}


def tasks_by_label(labels: Sequence[str], task: str | Mapping[str, str]) -> dict[str, Task]:
    """The task of each label: the same for all, or by label. Raises Rejected."""
    said = dict.fromkeys(labels, task) if isinstance(task, str) else dict(task)
    if len(set(labels)) < len(labels):
        raise Rejected(f"the label {max(labels, key=labels.count)!r} is named twice")
    if unknown := sorted(set(said) - set(labels)):
        raise Rejected(f"there is a task for {unknown[0]!r}, which is none of the labels")
    found: dict[str, Task] = {}
    for label in labels:
        kind = said.get(label, "classification")
        if kind == "classification":
            found[label] = "classification"
        elif kind == "regression":
            found[label] = "regression"
        else:
            raise Rejected(f"task {kind!r}: must be classification or regression")
    return found
