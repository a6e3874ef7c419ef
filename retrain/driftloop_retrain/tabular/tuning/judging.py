"""What a trial's answers to the validation rows are worth, by the objective of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.measures import objective_rule
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluate import Outputs, loss_scale, losses, metrics
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.postprocessing.choice import Wanted, choose_steps
from driftloop_retrain.tabular.tuning.trial import Trial
from driftloop_settings import RetrainSettings


@dataclass(frozen=True)
class Judged:
    """See Trial."""

    losses: NDArray[np.float64]
    metrics: Mapping[str, float]
    scale: float | None = None
    rule: LossRule | None = None


class Judge(Protocol):
    def __call__(self, held: Dataset, outputs: Outputs, first: Trial | None, /) -> Judged:
        """held, outputs: the validation rows with a trial's answers. first: the first trial that
        was done, by whose errors all are measured."""


@dataclass(frozen=True)
class LossJudge:
    """See Judge: of one output. classes: as in FitContext."""

    spec: ModelSpec
    task: Task
    classes: NDArray[np.generic] | None
    settings: RetrainSettings

    def __call__(self, held: Dataset, outputs: Outputs, first: Trial | None) -> Judged:
        spec, output = self.spec, answer_tensor(self.spec)
        scale, rule = (first.scale, first.rule) if first else (None, None)
        if spec.objective is None:
            scale = scale or loss_scale(self.task, held.labels, outputs[output])
            found = losses(self.task, held.labels, outputs[output], scale)
        else:
            rule = rule or objective_rule(spec, spec.objective, answered_rows(held, outputs))
            # With the label that the winner's graph would get: the answer that costs least.
            wanted = Wanted(calibrate=False, by_costs=self.settings.decide == "costs")
            chosen = choose_steps(
                spec,
                self.classes,
                held.labels,
                outputs,
                lambda answers: rule.losses(answered_rows(held, answers)),
                wanted,
            )
            found = chosen.losses
        measured = metrics(self.task, output, held.labels, outputs, self.classes)
        return Judged(found, measured, scale, rule)


def answer_tensor(spec: ModelSpec) -> str:
    """Return the name of the output that labels are compared with."""
    return spec.output or ("label" if spec.task == "classification" else "value")
