"""Families, data spans and parameters compete on validation rows. The winner is trained again on
train and validation together, for its best number of rounds.

First come the families with their own parameters: the first one chooses the best span, on which the
others are tried. Earlier contenders are preferred: a later one must be better by more than noise,
because validation parts after a change are small. Then, as long as the budget lasts, parameters are
searched (`tuning`).
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.tabular.dataset import Dataset, Span, Split, spanned, spans
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.recipes.ensemble import Ensemble
from driftloop_retrain.tabular.recipes.port import FitContext, FittedModel, Recipe
from driftloop_retrain.tabular.tuning.balance import BALANCE, balanced, with_balance
from driftloop_retrain.tabular.tuning.blend import Blend, blend_of
from driftloop_retrain.tabular.tuning.folds import Fold
from driftloop_retrain.tabular.tuning.judging import Judge, answer_tensor
from driftloop_retrain.tabular.tuning.ray_trials import RayTrials
from driftloop_retrain.tabular.tuning.sampler import suggestion
from driftloop_retrain.tabular.tuning.space import Parameters, Space, spaces_of
from driftloop_retrain.tabular.tuning.trial import NOISE, TUNED_NOISE, Trial, best_of
from driftloop_retrain.tabular.tuning.trial_runner import Asked, TrialRunner
from driftloop_settings import RetrainSettings

__all__ = [
    "NOISE",
    "Chosen",
    "Found",
    "Report",
    "Trial",
    "answer_tensor",
    "best_of",
    "choose",
    "search",
]

Report = Callable[[float, str], None]
"""Called with the completed share of the search and a sentence."""
MAX_REPEATS = 20
"""Suggestions in turn that were tried already, after which a space counts as searched through."""


@dataclass(frozen=True)
class Found:
    """The winner; `model` is trained on train and validation. record: what was searched, as JSON;
    its `count` is what `search` repeats it by. held, answers: the validation rows, and the winner's
    answers to them before it was trained on them."""

    model: FittedModel
    best: Trial
    trials: tuple[Trial, ...]
    held: Dataset
    answers: Outputs
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """The best trial of a search, before it is trained on train and validation together. answers:
    its own to the validation rows."""

    best: Trial
    trials: tuple[Trial, ...]
    held: Dataset
    answers: Outputs
    record: Mapping[str, Any]
    train: Callable[[], Found]
    """Trains it. Another one is in its place if its graphs do not go together."""


def search(
    spec: ModelSpec,
    parts: Split,
    recipes: Sequence[Recipe],
    context: FitContext,
    report: Report,
    settings: RetrainSettings,
    total: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Run the search, and train its best. Arguments: see `choose`."""
    return choose(spec, parts, recipes, context, report, settings, total, clock).train()


def choose(
    spec: ModelSpec,
    parts: Split,
    recipes: Sequence[Recipe],
    context: FitContext,
    report: Report,
    settings: RetrainSettings,
    total: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    folds: Sequence[Fold] = (),
    judge: Judge | None = None,
) -> Chosen:
    """Run the search. total: the number of its trials, to repeat one; None: by the budget. folds,
    judge: see TrialRunner. A trial that fails is counted. Raises the error of the first one if all
    do."""
    spaces = spaces_of(recipes, settings.spaces)
    if context.classes is not None and spec.objective is not None:
        spaces = with_balance(spaces)
    runner = TrialRunner(spec, parts, context, settings, total, clock, folds, judge)
    trials = _own_parameters(runner, spans(parts), recipes, report)
    best = best_of(trials)
    searches = settings.budget_s > 0 if total is None else total > runner.begun
    if searches and spaces:
        # A search that is repeated does the same trials here, however many run at a time.
        where = settings if total is None else settings.model_copy(update={"ray_address": None})
        tuned = _tuned(runner, best.span, recipes, spaces, report, where)
        best = _best_tuned(best, tuned)
        trials += tuned
    blend = None
    if settings.budget_s > 0 and total != 0:
        blend = blend_of(
            best,
            trials,
            runner.journal.outputs,
            partial(runner.judged, best),
            settings.ensemble,
            context.classes,
        )
        if blend is not None:
            trials.append(blend.trial)
    record = _record(runner, settings, spaces)

    def found(model: FittedModel, trial: Trial, answers: Outputs) -> Found:
        return Found(model, trial, tuple(trials), runner.held, answers, record)

    def train() -> Found:
        if blend is not None:
            ensemble = _ensemble(blend, parts, recipes, context, report)
            if ensemble is not None:
                return found(ensemble, blend.trial, blend.answers)
        words = f"{best.family} on {best.span.words} is best; training it on all but the hold-out"
        model = _trained(best, parts, recipes, context, lambda share: report(_late(share), words))
        return found(model, best, runner.journal.outputs(best.number))

    winner = best if blend is None else blend.trial
    answers = runner.journal.outputs(best.number) if blend is None else blend.answers
    return Chosen(winner, tuple(trials), runner.held, answers, record, train)


def _best_tuned(best: Trial, tuned: Sequence[Trial]) -> Trial:
    """The best of many seems better than it is. So another family must be better by as much noise
    as with its own parameters; other parameters of the same one by less."""
    for noise, kin in ((TUNED_NOISE, True), (NOISE, False)):
        found = [trial for trial in tuned if (trial.family == best.family) is kin]
        if found:
            best = best_of([best, min(found, key=lambda t: t.mean_loss)], noise)
    return best


FIRST, LAST = 0.5, 0.9
"""The shares of the progress at which the search for parameters begins and ends."""


def _late(share: float) -> float:
    return LAST + (1 - LAST) * min(1.0, share)


def _trained(
    trial: Trial,
    parts: Split,
    recipes: Sequence[Recipe],
    context: FitContext,
    progress: Callable[[float], None],
) -> FittedModel:
    """Train a trial's recipe on train and validation together."""
    progress(0.0)
    recipe = next(r for r in recipes if r.name == trial.family)
    rows, parameters = balanced(spanned(parts.fit, trial.span, parts.fresh_from), trial.parameters)
    final = replace(
        context,
        checkpoints=context.checkpoints / f"final-{trial.number}",
        rounds=trial.rounds,
        parameters=parameters,
        report=lambda share, _: progress(share),
    )
    return recipe.fit(rows, None, final)


def _ensemble(
    blend: Blend, parts: Split, recipes: Sequence[Recipe], context: FitContext, report: Report
) -> Ensemble | None:
    """Train the members; None if their graphs do not go together."""
    models, count = [], len(blend.members)
    for number, (trial, _) in enumerate(blend.members):
        words = f"training {trial.family}, member {number + 1} of {count} of an ensemble"
        models.append(
            _trained(
                trial,
                parts,
                recipes,
                context,
                lambda share, n=number, words=words: report(  # type: ignore[misc]
                    _late((n + min(1.0, share)) / count), words
                ),
            )
        )
    weights = tuple(weight for _, weight in blend.members)
    model = Ensemble(tuple(models), weights, context.classes, blend.trial.rounds)
    try:
        model.export(context.checkpoints / "ensemble")
    except Rejected:
        return None
    return model


def _own_parameters(
    runner: TrialRunner, choices: Sequence[Span], recipes: Sequence[Recipe], report: Report
) -> list[Trial]:
    trials: list[Trial] = []
    steps, done = len(choices) + len(recipes) - 1, 0
    for recipe in recipes:
        for span in (best_of(trials).span,) if trials else choices:
            words = f"training {recipe.name} on {span.words}"
            report(FIRST * min(1.0, done / steps), words)
            trial = runner.run(
                recipe,
                span,
                {},
                lambda share, done=done, words=words: report(  # type: ignore[misc]
                    FIRST * min(1.0, (done + share) / steps), words
                ),
            )
            done += 1
            if trial is not None:
                trials.append(trial)
    if not trials:
        raise runner.error or Rejected("no recipe could be trained")
    return trials


def _tuned(
    runner: TrialRunner,
    span: Span,
    recipes: Sequence[Recipe],
    spaces: Mapping[str, Space],
    report: Report,
    settings: RetrainSettings,
) -> list[Trial]:
    by_name = {recipe.name: recipe for recipe in recipes}
    own = {name: {BALANCE: 0.0, **getattr(by_name[name], "own_parameters", {})} for name in spaces}
    starts = _starts(spaces, by_name, settings)
    trials: list[Trial] = []
    number = repeats = 0
    executor = None if settings.ray_address is None else RayTrials(settings)
    with nullcontext() if executor is None else executor:
        while not runner.is_over and repeats < MAX_REPEATS:
            past = [
                replace(each, parameters={**own.get(each.family, {}), **each.parameters})
                for each in runner.journal.records[: runner.begun]
                if each.span == span.name
            ]
            known = [(each.family, each.parameters) for each in past]
            asked: list[Asked] = []
            is_last = False
            while len(asked) < runner.room and repeats < MAX_REPEATS and not is_last:
                chosen = (
                    starts[number]
                    if number < len(starts)
                    else suggestion(
                        spaces, past, settings.sampler, settings.seed, number - len(starts)
                    )
                )
                number += 1
                if chosen is None:
                    is_last = True
                elif chosen in known:
                    repeats += 1
                else:
                    repeats = 0
                    known.append(chosen)
                    # What recipes want tried is worth its time: slow learners look bad at first.
                    prunes = number > len(starts)
                    asked.append(Asked(by_name[chosen[0]], span, chosen[1], prunes))
            words = (
                f"searching parameters of {', '.join(dict.fromkeys(a.recipe.name for a in asked))}"
            )
            share = min(1.0, runner.journal.spent_s / max(settings.budget_s, 1e-9))
            report(FIRST + (LAST - FIRST) * share, words)
            trials += runner.run_all(asked, executor)
            if is_last:
                break
    return trials


def _starts(
    spaces: Mapping[str, Space], recipes: Mapping[str, Recipe], settings: RetrainSettings
) -> list[tuple[str, Parameters]]:
    """What the recipes want tried first, in turn; not with a space of the user's."""
    lists = [
        [(name, start) for start in getattr(recipes[name], "starts", ())]
        for name in spaces
        if name not in settings.spaces
    ]
    return [each for group in zip_longest(*lists) for each in group if each is not None]


def _record(
    runner: TrialRunner, settings: RetrainSettings, spaces: Mapping[str, Space]
) -> dict[str, Any]:
    records = runner.journal.records
    return {
        "space": [
            {"recipe": recipe, "parameter": name, **parameter.to_dict()}
            for recipe, space in spaces.items()
            for name, parameter in space.items()
        ],
        "sampler": settings.sampler,
        "validation": settings.validation,
        "budget_s": settings.budget_s,
        "spent_s": round(runner.journal.spent_s, 2),
        "count": len(records),
        "pruned": sum(record.state == "pruned" for record in records),
        "failed": dict(Counter(record.reason for record in records if record.state == "failed")),
    }
