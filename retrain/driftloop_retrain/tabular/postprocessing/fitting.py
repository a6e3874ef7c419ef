"""Fits the steps behind the winner of a search: the same training on the train part alone answers
the validation rows, on which the steps are chosen."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import objective_rule
from driftloop_retrain.tabular.dataset import Split, spanned
from driftloop_retrain.tabular.evaluate import Outputs, loss_scale, losses
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.postprocessing.choice import Choice, Wanted, choose_steps
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
    if spec.task != "classification" or not (wanted.calibrate or by_costs):
        return None
    recipe = next(each for each in recipes if each.name == best.family)
    name = f"postprocessing-{best.family}".replace(":", ".")
    again = replace(context, checkpoints=context.checkpoints / name, rounds=best.rounds)
    train = spanned(parts.train, best.span, parts.fresh_from)
    held = parts.validation
    outputs = recipe.fit(train, None, again).predict(held.features)
    answer = answer_tensor(spec)
    if spec.objective is None:
        scale = loss_scale(spec.task, held.labels, outputs[answer])

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return losses("classification", held.labels, answers[answer], scale)
    else:
        rule = objective_rule(spec, spec.objective, answered_rows(held, outputs))

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return rule.losses(answered_rows(held, answers))

    return choose_steps(spec, context.classes, held.labels, outputs, lost, wanted)
