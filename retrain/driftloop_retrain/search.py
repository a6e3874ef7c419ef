"""Families and spans of data compete on the newest validation rows; the winner is trained again on
train and validation together, for as long as it was at its best."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from driftloop_contracts.model import ModelSpec
from driftloop_retrain.dataset import Span, Split, spanned, spans
from driftloop_retrain.evaluate import losses, metrics
from driftloop_retrain.recipes.port import FitContext, FittedModel, Recipe

Report = Callable[[float, str], None]
"""Told the share of the search that is done, and a sentence for people."""


@dataclass(frozen=True)
class Trial:
    """One family on one span. `loss` decides: log loss, mean error where a recipe gives no
    probabilities, or RMSE. It says more than accuracy on the same few rows."""

    family: str
    span: Span
    rounds: int
    loss: float
    metrics: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        return {
            "family": self.family, "span": self.span.name, "rounds": self.rounds,
            "validation_loss": self.loss, **self.metrics,
        }  # fmt: skip


@dataclass(frozen=True)
class Found:
    """`model` is trained on train and validation."""

    model: FittedModel
    best: Trial
    trials: tuple[Trial, ...]


def search(
    spec: ModelSpec, parts: Split, recipes: list[Recipe], context: FitContext, report: Report
) -> Found:
    """Train each recipe on each span and return the best. Raises what a recipe raises."""
    runs = [(recipe, span) for recipe in recipes for span in spans(parts)]
    steps = len(runs) + 1
    trials = []
    for number, (recipe, span) in enumerate(runs):
        words = f"training {recipe.name} on {span.words}"
        report(number / steps, words)
        inner = _context(
            context, f"{recipe.name}-{span.name}", number / steps, 1 / steps, words, report
        )
        fitted = recipe.fit(spanned(parts.train, span, parts.fresh_from), parts.validation, inner)
        trials.append(_judged(spec, recipe, span, fitted, parts, context))
    at = int(np.argmin([trial.loss for trial in trials]))
    best, recipe = trials[at], runs[at][0]
    words = f"{best.family} on {best.span.words} is best; training it on all but the hold-out"
    report(len(runs) / steps, words)
    final = _context(context, "final", len(runs) / steps, 1 / steps, words, report)
    model = recipe.fit(
        spanned(parts.fit, best.span, parts.fresh_from), None, replace(final, rounds=best.rounds)
    )
    return Found(model, best, tuple(trials))


def _context(
    context: FitContext, name: str, start: float, share: float, words: str, report: Report
) -> FitContext:
    def inner(fraction: float, loss: float | None) -> None:
        del loss
        report(start + share * min(1.0, fraction), words)

    folder: Path = context.checkpoints / name.replace(":", ".")
    return replace(context, checkpoints=folder, report=inner)


def _judged(
    spec: ModelSpec, recipe: Recipe, span: Span, fitted: FittedModel, parts: Split, context: FitContext
) -> Trial:  # fmt: skip
    held = parts.validation
    outputs = fitted.predict(held.features)
    output = answer_tensor(spec)
    found = metrics(context.task, output, held.labels, outputs, context.classes)
    loss = found.get("log_loss", found.get("rmse"))
    if loss is None:
        loss = float(losses(context.task, held.labels, outputs[output]).mean())
    return Trial(recipe.name, span, fitted.rounds, loss, found)


def answer_tensor(spec: ModelSpec) -> str:
    """The output that labels compare with."""
    return spec.output or ("label" if spec.task == "classification" else "value")
