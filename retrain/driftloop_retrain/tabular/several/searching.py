"""One model for each label, or one for all: whichever answers the validation rows better.

Each label has a search of its own, over its recipes and parameters, as a model of one output has.
Recipes that train all labels at once, such as the multi-task network, have another one, by the
mean of the outputs' losses in units of the simplest answer's. One model for all is taken if it is
better by more than noise.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

from driftloop_contracts.errors import Rejected, RetryLater
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.tabular.dataset import Dataset, Split
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.evaluation.intervals import gain
from driftloop_retrain.tabular.recipes.port import FitContext, FittedModel, LabelOf, Recipe
from driftloop_retrain.tabular.search import NOISE, Chosen, Report, Trial, choose
from driftloop_retrain.tabular.several.joint_judge import JointJudge
from driftloop_retrain.tabular.several.labels import has_label, part_of, split_of
from driftloop_retrain.tabular.several.model import FittedTogether, of_member
from driftloop_retrain.tabular.several.outputs import Classes, LabelledOutput
from driftloop_retrain.tabular.tuning.folds import Fold, folds_of
from driftloop_settings import RetrainSettings

EACH = "one model for each label"
TOGETHER = "all labels together"
"""The search of recipes that train all labels at once, among those of labels."""


@dataclass(frozen=True)
class FoundTogether:
    """members: the trained models by label. held, answers: the validation rows with each label, and
    the winners' answers to them. best, trials: by label. family: which won, in words. record: of
    all searches and of the choice, as JSON; its `counts` are what they are repeated by."""

    family: str
    members: Mapping[str, FittedModel]
    held: Mapping[str, Dataset]
    answers: Mapping[str, Outputs]
    best: Mapping[str, Trial]
    trials: Mapping[str, tuple[Trial, ...]]
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What was chosen, and what it was compared with."""
        lost = self.record.get("losses", {})
        if len(lost) < 2:
            return f"trained as {self.family}"
        compared = ", ".join(f"{name} {loss:.4f}" for name, loss in lost.items())
        return f"trained as {self.family}; mean of the scaled losses: {compared}"


def search_together(
    spec: ModelSpec,
    outputs: Sequence[LabelledOutput],
    classes: Mapping[str, Classes],
    parts: Split,
    recipes: Sequence[Recipe],
    context: FitContext,
    report: Report,
    settings: RetrainSettings,
    totals: Mapping[str, int] | None = None,
) -> FoundTogether:
    """totals: the trials of each search, to repeat them. Raises as `search`, naming the label."""
    alone = [recipe for recipe in recipes if not is_joint(recipe)]
    joint = [recipe for recipe in recipes if is_joint(recipe)]
    searches = (len(outputs) if alone else 0) + bool(joint)
    share = settings.model_copy(update={"budget_s": settings.budget_s / searches})
    folds = folds_of(parts, settings)
    each: dict[str, Chosen] = {}
    for number, output in enumerate(outputs if alone else ()):
        own = split_of(parts, output.label)
        try:
            each[output.label] = choose(
                output.spec,
                own,
                alone,
                replace(
                    context,
                    task=output.task,
                    classes=classes[output.label],
                    checkpoints=context.checkpoints / f"output-{number}",
                ),
                _part(report, number, searches, f"{output.label}: "),
                share,
                None if totals is None else totals.get(output.label, 0),
                folds=[_fold_of(fold, output.label) for fold in folds],
            )
        except Rejected as error:
            raise Rejected(f"label {output.label!r}: {error}") from error
    first = {label: chosen.trials[0] for label, chosen in each.items()}
    judge = JointJudge(outputs, classes, parts.fit, settings, first)
    together, failed = None, ""
    if joint:
        try:
            together = choose(
                spec,
                parts,
                joint,
                replace(
                    context,
                    classes=None,
                    checkpoints=context.checkpoints / "together",
                    labels={o.label: LabelOf(o.task, classes[o.label]) for o in outputs},
                ),
                _part(report, searches - 1, searches, ""),
                share.model_copy(update={"ensemble": 1}),
                None if totals is None else totals.get(TOGETHER, 0),
                folds=folds,
                judge=judge,
            )
        except RetryLater:
            raise
        except Exception as error:  # recipes may be user code and raise anything
            if not each:
                raise
            failed = f"{type(error).__name__}: {error}"
    return _better(outputs, each, together, judge, failed)


def _better(
    outputs: Sequence[LabelledOutput],
    each: Mapping[str, Chosen],
    together: Chosen | None,
    judge: JointJudge,
    failed: str,
) -> FoundTogether:
    """Train the better of both on all rows but the hold-out."""
    record: dict[str, Any] = {"failed_together": failed} if failed else {}
    wins = not each
    if together is not None:
        record["losses"] = {together.best.family: together.best.mean_loss}
        if each:
            others = judge.of_each(
                together.held, {label: (one.held, one.answers) for label, one in each.items()}
            )
            record["losses"][EACH] = float(others.mean())
            record["lower_by"] = gain(others, together.best.losses)
            better = others - together.best.losses
            wins = float(better.mean()) > NOISE * float(better.std()) / sqrt(len(better))
    searches = {**each, **({TOGETHER: together} if together else {})}
    if wins:
        assert together is not None
        found = together.train()
        assert isinstance(found.model, FittedTogether)
        known = {o.label: has_label(found.held, o.label) for o in outputs}
        made = {o.label: of_member(found.answers, o.label) for o in outputs}
        chosen, members = found.best.family, found.model.members
        held = {o.label: part_of(found.held, o.label) for o in outputs}
        answers: dict[str, Outputs] = {
            label: {n: v[known[label]] for n, v in own.items()} for label, own in made.items()
        }
        best = dict.fromkeys(members, found.best)
    else:
        trained = {label: one.train() for label, one in each.items()}
        chosen, members = EACH, {label: one.model for label, one in trained.items()}
        held = {label: one.held for label, one in trained.items()}
        answers = {label: one.answers for label, one in trained.items()}
        best = {label: one.best for label, one in trained.items()}
    return FoundTogether(
        chosen,
        members,
        held,
        answers,
        best,
        {name: one.trials for name, one in searches.items()},
        {**record, "chosen": chosen, **_summed(searches)},
    )


def _summed(searches: Mapping[str, Chosen]) -> dict[str, Any]:
    """What all searches did, and each one's trials."""
    records = [one.record for one in searches.values()]
    spaces = [each for record in records for each in record["space"]]
    return {
        **{name: records[0][name] for name in ("sampler", "validation")},
        **{
            name: sum(record[name] for record in records)
            for name in ("budget_s", "spent_s", "count", "pruned")
        },
        "space": [each for number, each in enumerate(spaces) if each not in spaces[:number]],
        "failed": dict(sum((Counter(record["failed"]) for record in records), Counter[str]())),
        "counts": {name: one.record["count"] for name, one in searches.items()},
    }


def is_joint(recipe: Recipe) -> bool:
    """Whether a recipe trains all labels at once."""
    return bool(getattr(recipe, "joint", False))


def _part(report: Report, number: int, count: int, start: str) -> Report:
    return lambda done, words: report((number + min(1.0, done)) / count, start + words)


def _fold_of(fold: Fold, label: str) -> Fold:
    fresh = fold.fresh_from
    if fresh is not None:
        fresh = int(has_label(fold.train, label)[:fresh].sum())
    return Fold(part_of(fold.train, label), part_of(fold.validation, label), fresh)
