"""The gate of a model with several labels.

Over all, a candidate must be better by the mean of its decisive metrics, each in units of the
champion's own loss; and no output, guardrail or slice may be worse by more than its margin. Each
output must beat the same answer for every row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import Measure, Measures, all_losses, measures_of
from driftloop_retrain.record.gate_result import GateResult
from driftloop_retrain.tabular.baseline import constant_outputs, with_baseline
from driftloop_retrain.tabular.dataset import Dataset, Split
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.gate import Guard, gate
from driftloop_retrain.tabular.several.labels import part_of
from driftloop_retrain.tabular.several.outputs import READS, Classes, LabelledOutput, judged_spec
from driftloop_retrain.tabular.several.scaling import Losses, scaled, unit_of
from driftloop_settings import Settings


@dataclass(frozen=True)
class Together:
    """What a model of several labels is judged by, measured by one model's answers. units: its mean
    loss by each decisive metric."""

    measures: Measures
    units: Mapping[str, float]

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        outputs: Sequence[LabelledOutput],
        held: Dataset,
        answers: Outputs,
        settings: Settings,
    ) -> "Together":
        """answers: of the model by which is measured, to the rows held. outputs: with the classes
        of their labels. Raises Rejected as `measures_of`."""
        rows, wanted = answered_rows(held, answers), settings.retrain
        found = measures_of(
            judged_spec(spec, outputs), rows, wanted.max_regression, wanted.min_slice_rows
        )
        decisive = [measure for measure in found.all if measure.decisive]
        units = {m.name: unit_of(m.losses(rows)) for m in decisive}
        return cls(found, units)

    @property
    def decisive(self) -> list[Measure]:
        return [measure for measure in self.measures.all if measure.decisive]

    @property
    def margin(self) -> float:
        """The smallest share of the loss that matters of one metric, over the metrics."""
        return min(m.margin / self.units[m.name] for m in self.decisive) / len(self.units)

    def losses(self, held: Dataset, answers: Outputs) -> Losses:
        """[n], whose mean is the mean over decisive metrics in their units."""
        rows = answered_rows(held, answers)
        found = all_losses(self.decisive, rows)
        names = [measure.name for measure in self.decisive]
        return scaled(dict(zip(names, found, strict=True)), self.units)


def judge_together(
    spec: ModelSpec,
    outputs: Sequence[LabelledOutput],
    classes: Mapping[str, Classes],
    rows: Split,
    ours: Outputs,
    theirs: Outputs,
    settings: Settings,
) -> GateResult:
    """ours, theirs: the answers of candidate and champion to the hold-out, by the served graph."""
    held = rows.holdout
    judged = Together.of(spec, outputs, held, theirs, settings)
    candidate, champion = (answered_rows(held, answers) for answers in (ours, theirs))
    guards = [
        _guard(measure, here, there)
        for measure, here, there in zip(
            judged.measures.all,
            all_losses(judged.measures.all, candidate),
            all_losses(judged.measures.all, champion),
            strict=True,
        )
    ]
    verdict = gate(
        outputs[0].task,
        judged.losses(held, ours),
        judged.losses(held, theirs),
        (),
        settings.retrain,
        guards,
        in_shares=True,
    )
    for output in outputs:
        (whole, *_) = (m for m in judged.measures.all if m.part is None and _compares(m, output))
        own = output.own(ours, classes[output.label])
        constant = constant_outputs(part_of(rows.fit, output.label).labels, own)
        answers = {**ours, **output.served(constant, classes[output.label])}
        simplest = whole.losses(answered_rows(held, answers))
        name = f"baseline {output.label}"
        verdict = with_baseline(verdict, whole.losses(candidate), simplest, name)
    return verdict.noting(f"slice {name}: too few rows, {n}" for name, n in judged.measures.small)


def _compares(measure: Measure, output: LabelledOutput) -> bool:
    said = measure.rule.objective
    return said is not None and said.label == output.label and said.kind.reads in READS


def _guard(measure: Measure, ours: Losses, theirs: Losses) -> Guard:
    return Guard(measure.of or measure.name, ours, theirs, measure.margin)
