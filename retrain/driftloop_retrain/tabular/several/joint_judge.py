"""What answers to several labels are worth: the mean of the outputs' losses, in units of the
simplest answer's."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.baseline import constant_outputs
from driftloop_retrain.tabular.dataset import ALL, Dataset
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.several.labels import has_label, part_of
from driftloop_retrain.tabular.several.model import of_member
from driftloop_retrain.tabular.several.outputs import Classes, LabelledOutput
from driftloop_retrain.tabular.several.scaling import Losses, scaled, unit_of
from driftloop_retrain.tabular.tuning.judging import Judged, LossJudge, answer_tensor
from driftloop_retrain.tabular.tuning.trial import Trial
from driftloop_settings import RetrainSettings


class JointJudge:
    """See Judge: of answers to all labels, `FittedTogether.predict`. fit: the rows that the
    simplest answer is made of. firsts: by label, the trial by whose errors all are measured; else
    the first answers that are judged."""

    def __init__(
        self,
        outputs: Sequence[LabelledOutput],
        classes: Mapping[str, Classes],
        fit: Dataset,
        settings: RetrainSettings,
        firsts: Mapping[str, Trial],
    ) -> None:
        self._outputs, self._classes, self._fit = outputs, classes, fit
        self._settings, self._firsts = settings, dict(firsts)
        self._units: dict[str, float] = {}

    def __call__(self, held: Dataset, outputs: Outputs, first: Trial | None) -> Judged:
        del first  # there is one for each label
        lost: dict[str, Losses] = {}
        metrics: dict[str, float] = {}
        for output in self._outputs:
            known = has_label(held, output.label)
            part = part_of(held, output.label)
            own = {n: v[known] for n, v in of_member(outputs, output.label).items()}
            found = self._judged(output, part, own)
            lost[output.label] = _spread(found.losses, known)
            metrics |= {f"{output.label} {n}": v for n, v in found.metrics.items()}
        return Judged(scaled(lost, self._units), metrics)

    def of_each(self, held: Dataset, answered: Mapping[str, tuple[Dataset, Outputs]]) -> Losses:
        """The same of one model for each label. answered: the rows that have it, with its
        answers."""
        lost = {}
        for output in self._outputs:
            label = output.label
            found = self._judged(output, *answered[label])
            lost[label] = _spread(found.losses, has_label(held, label))
        return scaled(lost, self._units)

    def _judged(self, output: LabelledOutput, part: Dataset, own: Outputs) -> Judged:
        label, first = output.label, self._firsts.get(output.label)
        if answer_tensor(output.spec) not in own:
            raise Rejected(f"label {label!r}: the recipe gives {sorted(own)} for it")
        judge = LossJudge(output.spec, output.task, self._classes[label], self._settings)
        found = judge(part, own, first)
        if label not in self._firsts:
            self._firsts[label] = Trial("", ALL, 1, found.losses, {}, found.scale, found.rule)
        if label not in self._units:
            constant = constant_outputs(part_of(self._fit, label).labels, own)
            simplest = judge(part, constant, self._firsts[label]).losses
            self._units[label] = unit_of(simplest)
        return found


def _spread(losses: Losses, known: NDArray[np.bool_]) -> Losses:
    found = np.full(len(known), np.nan)
    found[known] = losses
    return found
