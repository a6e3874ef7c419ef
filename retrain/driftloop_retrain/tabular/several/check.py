"""What a recipe of several labels must do; see `recipes.check`."""

from collections.abc import Mapping
from pathlib import Path

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import Task
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.baseline import constant_outputs
from driftloop_retrain.tabular.dataset import Dataset, input_tensors
from driftloop_retrain.tabular.evaluate import loss_scale, losses
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.parity import check_parity, tied_rows
from driftloop_retrain.tabular.recipes.check import MIN_ROWS, asked_rows, expect
from driftloop_retrain.tabular.recipes.port import FitContext, LabelOf, Recipe
from driftloop_retrain.tabular.several.data import classes_together
from driftloop_retrain.tabular.several.first_training import first_spec
from driftloop_retrain.tabular.several.labels import has_label, part_of
from driftloop_retrain.tabular.several.model import FittedTogether, ServedTogether, of_member
from driftloop_retrain.tabular.several.outputs import new_outputs
from driftloop_retrain.tabular.several.searching import is_joint


def check_recipe_together(
    recipe: Recipe,
    tasks: Mapping[str, Task],
    data: Dataset,
    folder: Path,
    tolerance: float = 1e-4,
) -> None:
    """Train, export and run the recipe on rows with several labels. Raises RecipeBroken,
    ParityBroken, Rejected for too few rows, or the recipe's errors."""
    if data.rows < MIN_ROWS:
        raise Rejected(f"{data.rows} rows are too few to check a recipe on; give {MIN_ROWS}")
    expect(is_joint(recipe), "it trains one label: check it with one --label")
    cut = data.rows * 3 // 4
    train, held = data.slice(0, cut), data.slice(cut, data.rows)
    classes, inputs = classes_together(data, tasks), input_tensors(data.features)
    spec, _ = first_spec("checked", tasks, data, classes)
    outputs = new_outputs(spec, data.features.column_names)

    def fitted(name: str, rows: Dataset, held: Dataset | None, rounds: int | None = None) -> object:
        labels = {label: LabelOf(task, classes[label]) for label, task in tasks.items()}
        first = next(iter(tasks.values()))
        context = FitContext(first, inputs, 7, folder / name, rounds=rounds, labels=labels)
        return recipe.fit(rows, held, context)

    model = fitted("one", train, held)
    assert isinstance(model, FittedTogether)
    expect(set(model.members) == set(tasks), f"it trains {sorted(model.members)}")
    again = fitted("two", train, held) if getattr(recipe, "deterministic", True) else model
    assert isinstance(again, FittedTogether)
    ServedTogether(outputs, model.members, classes).export(folder)
    graph = OnnxModel(folder)
    known, wanted = (
        {(t.name, t.datatype) for t in side} for side in (graph.signature.inputs, inputs)
    )
    expect(known == wanted, f"the graph's inputs {sorted(known)} are not {sorted(wanted)}")
    for rows in asked_rows(held.features):
        native, repeated, answers = (
            model.predict(rows),
            again.predict(rows),
            outputs_of(graph, rows),
        )
        check_parity(rows, native, repeated, 0.0)
        for output in outputs:
            own = of_member(native, output.label)
            served = output.served(own, classes[output.label])
            tied = tied_rows(own, tolerance)
            check_parity(rows, served, {n: answers[n] for n in served}, tolerance, tied)
    native = model.predict(held.features)
    for output in outputs:
        there = has_label(held, output.label)
        own = {n: v[there] for n, v in of_member(native, output.label).items()}
        labels, answer = part_of(held, output.label).labels, str(output.spec.output)
        constant = constant_outputs(part_of(train, output.label).labels, own)
        scale = loss_scale(output.task, labels, constant[answer])
        ours, naive = (
            float(losses(output.task, labels, found[answer], scale).mean())
            for found in (own, constant)
        )
        expect(
            ours < naive,
            f"label {output.label!r}: a loss of {ours:.3f} is not better than {naive:.3f} for a "
            "constant",
        )
    refit = fitted("refit", data, None, model.rounds)
    expect(getattr(refit, "rounds", 0) >= 1, "a fit without a validation part must train too")
