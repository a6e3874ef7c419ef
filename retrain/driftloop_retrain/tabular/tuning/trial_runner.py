"""Runs trials one after another within a budget, each kept in the journal."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected, RetryLater
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import objective_rule
from driftloop_retrain.tabular.dataset import Span, Split, spanned
from driftloop_retrain.tabular.evaluate import Outputs, loss_scale, losses, metrics
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.postprocessing.choice import Wanted, choose_steps
from driftloop_retrain.tabular.recipes.port import FitContext, Recipe
from driftloop_retrain.tabular.tuning.balance import balanced
from driftloop_retrain.tabular.tuning.folds import folds_of, together
from driftloop_retrain.tabular.tuning.halving import RUNGS, is_dropped
from driftloop_retrain.tabular.tuning.journal import Journal, State, TrialRecord
from driftloop_retrain.tabular.tuning.space import Parameters
from driftloop_retrain.tabular.tuning.trial import Trial
from driftloop_settings import RetrainSettings

Progress = Callable[[float], None]
"""Called with the completed share of a trial."""


class _Pruned(Exception):
    """The trial is not among the best."""


class _OutOfTime(Exception):
    """The budget ended during the trial, which is then as if it had not been begun."""


class TrialRunner:
    """The trials of one search. total: how many there are in all, of a search that is repeated;
    None: as many as the budget allows."""

    def __init__(
        self,
        spec: ModelSpec,
        parts: Split,
        context: FitContext,
        settings: RetrainSettings,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec, self._context, self._settings = spec, context, settings
        self._folds = folds_of(parts, settings)
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
        tuned = sum(bool(record.parameters) for record in self.journal.records)
        spent = self.journal.spent_s >= self._budget_s
        return self._cut or spent or tuned >= self._settings.trials

    def run(
        self,
        recipe: Recipe,
        span: Span,
        parameters: Parameters,
        progress: Progress,
        prunes: bool = True,
    ) -> Trial | None:
        """Run the next trial, or read it from the journal. prunes: end it early if it is not among
        the best. None: it failed, was pruned, or the budget ended. One without parameters, which
        are then the recipe's own, runs to its end."""
        number = self._next
        outputs: Outputs | None
        if number < len(self.journal.records):
            record = self.journal.records[number]
            outputs = self.journal.outputs(number) if record.state == "done" else None
        else:
            try:
                record, outputs = self._fitted(recipe, span, parameters, progress, prunes)
            except _OutOfTime:
                self._cut = True
                return None
            self.journal.add(record, outputs)
        self._next += 1
        if outputs is None:
            self.error = self.error or Rejected(record.reason)
            return None
        trial = self._judged(span, record, outputs, number)
        self._first = self._first or trial
        return trial

    def _fitted(
        self,
        recipe: Recipe,
        span: Span,
        parameters: Parameters,
        progress: Progress,
        prunes: bool,
    ) -> tuple[TrialRecord, Outputs | None]:
        started = self._clock()
        rungs: list[float] = []
        outputs: dict[str, np.ndarray] | None = None
        rounds, reason, value = 0, "", None
        state: State = "done"
        try:
            found = []
            for number, fold in enumerate(self._folds):

                def report(share: float, loss: float | None, number: int = number) -> None:
                    progress((number + min(1.0, share)) / len(self._folds))
                    if parameters:
                        self._check_time(started)
                        if number == 0 and loss is not None:
                            self._check_rungs(recipe.name, span, rungs, share, loss, prunes)

                train, own = balanced(spanned(fold.train, span, fold.fresh_from), parameters)
                folder = self._context.checkpoints / f"trial-{self._next}-{number}"
                context = replace(self._context, checkpoints=folder, report=report, parameters=own)
                model = recipe.fit(train, fold.validation, context)
                found.append((model.rounds, model.predict(fold.validation.features)))
            rounds = max(1, round(float(np.mean([each for each, _ in found]))))
            outputs = {
                name: np.concatenate([each[name] for _, each in found]) for name in found[0][1]
            }
            value = self._loss_of(outputs)
        except (_OutOfTime, RetryLater):
            raise
        except _Pruned:
            state = "pruned"
        except Exception as error:  # recipes may be user code and raise anything
            self.error = self.error or error
            state, outputs, reason = "failed", None, f"{type(error).__name__}: {error}"
        seconds = self._clock() - started
        record = TrialRecord(
            recipe.name, span.name, parameters, state, seconds, rounds, value, tuple(rungs), reason
        )
        return record, outputs

    def _check_time(self, started: float) -> None:
        if self._total is None:
            spent = self.journal.spent_s + self._clock() - started
            if spent > self._budget_s:
                raise _OutOfTime

    def _check_rungs(
        self,
        family: str,
        span: Span,
        rungs: list[float],
        share: float,
        loss: float,
        prunes: bool,
    ) -> None:
        while len(rungs) < len(RUNGS) and share >= RUNGS[len(rungs)]:
            rung = len(rungs)
            rungs.append(loss)
            others = [
                record.rungs[rung]
                for record in self.journal.records
                if (record.family, record.span) == (family, span.name) and len(record.rungs) > rung
            ]
            if prunes and self._settings.prune and is_dropped(loss, others):
                raise _Pruned

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
        held, spec, context = self.held, self._spec, self._context
        output = answer_tensor(spec)
        # All are judged by what the first one, which the others have to beat, gets wrong.
        scale, rule = (self._first.scale, self._first.rule) if self._first else (None, None)
        if spec.objective is None:
            scale = scale or loss_scale(context.task, held.labels, outputs[output])
            found = losses(context.task, held.labels, outputs[output], scale)
        else:
            rule = rule or objective_rule(spec, spec.objective, answered_rows(held, outputs))
            # With the label that the winner's graph would get: the answer that costs least.
            wanted = Wanted(calibrate=False, by_costs=self._settings.decide == "costs")
            chosen = choose_steps(
                spec,
                context.classes,
                held.labels,
                outputs,
                lambda answers: rule.losses(answered_rows(held, answers)),
                wanted,
            )
            found = chosen.losses
        return Trial(
            record.family,
            span,
            record.rounds,
            found,
            metrics(context.task, output, held.labels, outputs, context.classes),
            scale,
            rule,
            record.parameters,
            record.seconds,
            number,
        )


def answer_tensor(spec: ModelSpec) -> str:
    """Return the name of the output that labels are compared with."""
    return spec.output or ("label" if spec.task == "classification" else "value")


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
