"""Fits the steps behind the winner of a search: the same training on the train part alone answers
the validation rows, on which the steps are chosen."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import objective_rule
from driftloop_retrain.tabular.dataset import Split, spanned
from driftloop_retrain.tabular.evaluate import Outputs, loss_scale, losses
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.postprocessing.choice import Choice, Wanted, choose_steps
from driftloop_retrain.tabular.postprocessing.interval import fit_interval
from driftloop_retrain.tabular.recipes.port import FitContext, Recipe
from driftloop_retrain.tabular.search import Trial, answer_tensor


def fitted_steps(
    spec: ModelSpec,
    parts: Split,
    recipes: list[Recipe],
    best: Trial,
    context: FitContext,
    wanted: Wanted,
) -> Choice | None:
    """None: nothing could be chosen for this model, so nothing was trained."""
    by_costs = wanted.by_costs and spec.objective is not None
    if not (wanted.calibrate or by_costs if spec.task == "classification" else wanted.interval):
        return None
    recipe = next(each for each in recipes if each.name == best.family)
    name = f"postprocessing-{best.family}".replace(":", ".")
    again = replace(context, checkpoints=context.checkpoints / name, rounds=best.rounds)
    train = spanned(parts.train, best.span, parts.fresh_from)
    held = parts.validation
    outputs = recipe.fit(train, None, again).predict(held.features)
    answer = answer_tensor(spec)
    if spec.task == "regression" and wanted.interval is not None:
        columns = held.features.column_names
        return _interval(outputs[answer].reshape(-1), held.labels, wanted.interval, columns)
    if spec.objective is None:
        scale = loss_scale("classification", held.labels, outputs[answer])

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return losses("classification", held.labels, answers[answer], scale)
    else:
        rule = objective_rule(spec, spec.objective, answered_rows(held, outputs))

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return rule.losses(answered_rows(held, answers))

    return choose_steps(spec, context.classes, held.labels, outputs, lost, wanted)


def _interval(
    values: NDArray[Any], labels: NDArray[np.generic], coverage: float, columns: list[str]
) -> Choice:
    """Raises Rejected with too few rows: clients expect the outputs."""
    found = fit_interval(values, labels, coverage, columns)
    if found is None:
        raise Rejected(
            f"{len(values)} validation rows are too few for an interval that covers {coverage:.0%} "
            "of the labels (retrain.interval)"
        )
    measured = {**found.to_dict(), "rows": len(values)}
    return Choice(found, np.zeros(0), measured)
