"""Runs trials one after another within a budget, each kept in the journal."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.tabular.dataset import Span, Split
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.recipes.port import FitContext, Recipe
from driftloop_retrain.tabular.tuning.folds import Fold, folds_of, together
from driftloop_retrain.tabular.tuning.journal import Journal, TrialRecord
from driftloop_retrain.tabular.tuning.judging import Judge, LossJudge
from driftloop_retrain.tabular.tuning.space import Parameters
from driftloop_retrain.tabular.tuning.trial import Trial
from driftloop_retrain.tabular.tuning.trial_task import (
    Progress,
    TrialOrder,
    TrialRun,
    run_trial,
)
from driftloop_settings import RetrainSettings

Executor = Callable[[Iterable[TrialOrder], Sequence[Fold]], Iterable[TrialRun]]
"""Runs trials, and gives what became of them in the same order."""


@dataclass(frozen=True)
class Asked:
    """A trial that is wanted; see TrialOrder."""

    recipe: Recipe
    span: Span
    parameters: Parameters
    prunes: bool = True


class TrialRunner:
    """The trials of one search. total: how many there are in all, of a search that is repeated;
    None: as many as the budget allows. folds: in place of those of the parts. judge: in place of
    the spec's objective."""

    def __init__(
        self,
        spec: ModelSpec,
        parts: Split,
        context: FitContext,
        settings: RetrainSettings,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        folds: Sequence[Fold] = (),
        judge: Judge | None = None,
    ) -> None:
        self._context, self._settings = context, settings
        self._judge = judge or LossJudge(spec, context.task, context.classes, settings)
        self._folds = tuple(folds) or folds_of(parts, settings)
        self.held = together([fold.validation for fold in self._folds])
        """The validation rows."""
        self._total, self._clock = total, clock
        # A search that takes all of the time would leave none to train the winner.
        self._budget_s = min(settings.budget_s, settings.deadline_s / 2)
        key = _key(spec, settings, parts)
        self.journal = Journal(context.checkpoints / "search", key)
        self._next = 0
        self._cut = False
        self._first: Trial | None = None
        self.error: Exception | None = None
        """Of the first trial that failed."""

    @property
    def begun(self) -> int:
        """The trials up to now, those read from the journal included."""
        return self._next

    @property
    def is_over(self) -> bool:
        """Whether no further trial of searched parameters is to be run."""
        if self._next < len(self.journal.records):
            return False
        if self._total is not None:
            return self._next >= self._total
        spent = self.journal.spent_s >= self._budget_s
        return self._cut or spent or self._tuned >= self._settings.trials

    @property
    def _tuned(self) -> int:
        return sum(bool(record.parameters) for record in self.journal.records[: self._next])

    @property
    def room(self) -> int:
        """The number of trials that may be asked for at a time."""
        most = self._settings.trials_at_once
        if self._total is not None:
            return min(most, self._total - self._next)
        return min(most, self._settings.trials - self._tuned)

    def run(
        self, recipe: Recipe, span: Span, parameters: Parameters, progress: Progress
    ) -> Trial | None:
        """Run the next trial here, or read it from the journal. None: it failed, was pruned, or the
        budget ended. One without parameters, which are then the recipe's own, runs to its end."""

        def here(orders: Iterable[TrialOrder], folds: Sequence[Fold]) -> Iterable[TrialRun]:
            return (run_trial(order, folds, progress, self._clock) for order in orders)

        found = self.run_all([Asked(recipe, span, parameters)], here)
        return found[0] if found else None

    def run_all(self, asked: Sequence[Asked], executor: Executor | None = None) -> list[Trial]:
        """Run the next trials, or read them from the journal; none of them knows of the others.
        Returns those that are done."""
        first, known = self._next, self.journal.records
        before = known[: self._next]
        trials = []
        for each, record in zip(asked, known[first:], strict=False):
            trials += self._counted(each.span, record)
        orders = (
            self._order(each, number, before)
            for number, each in enumerate(asked[self._next - first :], self._next)
        )
        for order, run in self._runs(orders, executor or self._here):
            if run.state is None:
                self._cut = True
                break
            record = self._recorded(order, run)
            self.journal.add(record, run.outputs if record.state == "done" else None)
            trials += self._counted(order.span, record)
        return trials

    def _here(self, orders: Iterable[TrialOrder], folds: Sequence[Fold]) -> Iterable[TrialRun]:
        return (run_trial(order, folds, clock=self._clock) for order in orders)

    def _runs(
        self, orders: Iterable[TrialOrder], executor: Executor
    ) -> Iterator[tuple[TrialOrder, TrialRun]]:
        first, second = tee(orders)
        return zip(first, executor(second, self._folds), strict=True)

    def _order(self, each: Asked, number: int, before: Sequence[TrialRecord]) -> TrialOrder:
        key = (each.recipe.name, each.span.name)
        return TrialOrder(
            number,
            each.recipe,
            each.span,
            each.parameters,
            self._context,
            each.prunes and self._settings.prune,
            tuple(record.rungs for record in before if (record.family, record.span) == key),
            None if self._total is not None else self._budget_s - self.journal.spent_s,
        )

    def _recorded(self, order: TrialOrder, run: TrialRun) -> TrialRecord:
        state, error, value = run.state, run.error, None
        assert state is not None
        if run.outputs is not None:
            try:
                value = self._loss_of(run.outputs)
            except Exception as wrong:  # answers of user code may be anything
                state, error = "failed", wrong
        self.error = self.error or error
        return TrialRecord(
            order.recipe.name,
            order.span.name,
            order.parameters,
            state,
            run.seconds,
            run.rounds,
            value,
            run.rungs,
            "" if error is None else f"{type(error).__name__}: {error}",
        )

    def _counted(self, span: Span, record: TrialRecord) -> list[Trial]:
        number = self._next
        self._next += 1
        if record.state != "done":
            if record.state == "failed":
                self.error = self.error or Rejected(record.reason)
            return []
        trial = self._judged(span, record, self.journal.outputs(number), number)
        self._first = self._first or trial
        return [trial]

    def judged(self, like: Trial, outputs: Outputs) -> Trial:
        """Other outputs on the validation rows, judged as those of the trial."""
        record = TrialRecord(like.family, "", like.parameters, "done", like.seconds, like.rounds)
        return self._judged(like.span, record, outputs, like.number)

    def _loss_of(self, outputs: Outputs) -> float:
        placeholder = TrialRecord("", "", {}, "done", 0.0)
        value = self._judged(Span("", ""), placeholder, outputs, 0).mean_loss
        if not np.isfinite(value):
            raise Rejected("the objective of its answers is not a finite number")
        return value

    def _judged(self, span: Span, record: TrialRecord, outputs: Outputs, number: int) -> Trial:
        found = self._judge(self.held, outputs, self._first)
        return Trial(
            record.family,
            span,
            record.rounds,
            found.losses,
            found.metrics,
            found.scale,
            found.rule,
            record.parameters,
            record.seconds,
            number,
        )


def _key(spec: ModelSpec, settings: RetrainSettings, parts: Split) -> str:
    """The hash of what decides about the trials, so that those of another search are not used."""
    from driftloop_retrain.record.provenance import this_code

    made_of: Mapping[str, Any] = {
        "spec": spec.to_dict(),
        "settings": settings.model_dump(mode="json"),
        "rows": [parts.train.rows, parts.validation.rows, parts.holdout.rows, parts.fit.source],
        "code": this_code([]).sha256,
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
