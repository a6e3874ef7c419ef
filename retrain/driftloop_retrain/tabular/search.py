"""Families and data spans compete on the newest validation rows. The winner is trained again on
train and validation together, for its best number of rounds.

The first family chooses the best span, on which the other families are tried. Earlier contenders
are preferred: a later one must be better by more than noise, because validation parts after a
change are small.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.measures import objective_rule
from driftloop_retrain.tabular.dataset import Span, Split, spanned, spans
from driftloop_retrain.tabular.evaluate import loss_scale, losses, metrics
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.recipes.port import FitContext, FittedModel, Recipe

Report = Callable[[float, str], None]
"""Called with the completed share of the search and a sentence."""


NOISE = 2.0
"""In standard errors of the paired difference."""


@dataclass(frozen=True)
class Trial:
    """One family on one span. losses [n]: on the validation rows, as in the gate. scale: of a
    regression's losses; see `loss_scale`."""

    family: str
    span: Span
    rounds: int
    losses: NDArray[np.float64]
    metrics: dict[str, float]
    scale: float | None = None
    rule: LossRule | None = None
    """Of a model with an objective; the losses of rows that do not count are NaN."""

    def to_dict(self) -> dict[str, object]:
        return {
            "family": self.family,
            "span": self.span.name,
            "rounds": self.rounds,
            "mean_loss": float(np.nanmean(self.losses)),
            **self.metrics,
        }


@dataclass(frozen=True)
class Found:
    """The winner; `model` is trained on train and validation."""

    model: FittedModel
    best: Trial
    trials: tuple[Trial, ...]


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the first trial, unless a later one is better by more than noise; then that one, and
    so on."""
    best = trials[0]
    for trial in trials[1:]:
        gain = best.losses - trial.losses
        gain = gain[~np.isnan(gain)]
        error = float(gain.std()) / sqrt(len(gain))
        if float(gain.mean()) > NOISE * error:
            best = trial
    return best


def search(
    spec: ModelSpec, parts: Split, recipes: Sequence[Recipe], context: FitContext, report: Report
) -> Found:
    """Run the search. Raises the errors of a recipe."""
    choices = spans(parts)
    # The spans of the first family, the other families, the final fit.
    steps = len(choices) + len(recipes)
    trials: list[Trial] = []

    def inner(name: str, words: str) -> FitContext:
        done = len(trials)
        report(done / steps, words)
        return replace(
            context,
            checkpoints=context.checkpoints / name.replace(":", "."),
            report=lambda share, _: report((done + min(1.0, share)) / steps, words),
        )

    for number, recipe in enumerate(recipes):
        for span in choices if number == 0 else (best_of(trials).span,):
            words = f"training {recipe.name} on {span.words}"
            fitted = recipe.fit(
                spanned(parts.train, span, parts.fresh_from),
                parts.validation,
                inner(f"{recipe.name}-{span.name}", words),
            )
            # All are judged by what the first one, which the others have to beat, gets wrong.
            first = trials[0] if trials else None
            trials.append(_judged(spec, recipe, span, fitted, parts, context, first))
    best = best_of(trials)
    recipe = next(r for r in recipes if r.name == best.family)
    words = f"{best.family} on {best.span.words} is best; training it on all but the hold-out"
    final = replace(inner("final", words), rounds=best.rounds)
    model = recipe.fit(spanned(parts.fit, best.span, parts.fresh_from), None, final)
    return Found(model, best, tuple(trials))


def _judged(
    spec: ModelSpec,
    recipe: Recipe,
    span: Span,
    fitted: FittedModel,
    parts: Split,
    context: FitContext,
    first: Trial | None,
) -> Trial:
    held = parts.validation
    outputs = fitted.predict(held.features)
    output = answer_tensor(spec)
    scale, rule = (first.scale, first.rule) if first else (None, None)
    if spec.objective is None:
        scale = scale or loss_scale(context.task, held.labels, outputs[output])
        found = losses(context.task, held.labels, outputs[output], scale)
    else:
        rows = answered_rows(held, outputs)
        rule = rule or objective_rule(spec, spec.objective, rows)
        found = rule.losses(rows)
    shown = metrics(context.task, output, held.labels, outputs, context.classes)
    return Trial(recipe.name, span, fitted.rounds, found, shown, scale, rule)


def answer_tensor(spec: ModelSpec) -> str:
    """Return the name of the output that labels are compared with."""
    return spec.output or ("label" if spec.task == "classification" else "value")
