"""All that a model is judged by: its objective, the guardrails, and the objective on each slice.

What a margin is in terms of the loss, and what some losses are measured by, is known only of the
champion's labelled rows: so measures are made of those, once, and kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective, parse_objective, relative
from driftloop_evaluation.labels import Floats
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.objective_losses import learn
from driftloop_evaluation.scales import scale_of
from driftloop_evaluation.slices import Slice, slices_of

QUALITY = "quality"
"""The name of the decisive measure."""
SLICE = "slice "


@dataclass(frozen=True, slots=True)
class Measure:
    """margin: the rise of the mean loss that matters. part: the slice that it is of, None: all
    rows. The first decisive one is named QUALITY, one of a slice by SLICE and the slice's name.
    further: decisive beside the first one."""

    name: str
    rule: LossRule
    margin: float
    part: Slice | None = None
    further: bool = False

    @property
    def decisive(self) -> bool:
        return self.name == QUALITY or self.further

    @property
    def by_answer(self) -> bool:
        """Whether it judges an answer without a label."""
        objective = self.rule.objective
        return objective is not None and objective.kind.reads == "answer"

    @property
    def of(self) -> str:
        """What it measures, if the model has several objectives and the name does not say it."""
        spec, objective = self.rule.spec, self.rule.objective
        several = self.name == QUALITY and spec.further and objective is not None
        return objective.name if several and objective else ""

    def losses(self, rows: pa.Table) -> Floats:
        """As `LossRule.losses`, NaN outside of the slice."""
        return self._within(rows, self.rule.losses(rows))

    def _within(self, rows: pa.Table, losses: Floats) -> Floats:
        return losses if self.part is None else np.where(self.part.holds(rows), losses, np.nan)

    def to_dict(self) -> dict[str, Any]:
        rule, part = self.rule, self.part
        return {
            "name": self.name,
            "margin": self.margin,
            "scale": rule.scale,
            "objective": rule.objective and rule.objective.to_dict(),
            "facts": dict(rule.facts),
            "slice": part and {"name": part.name, "condition": part.condition.text},
            "further": self.further,
        }

    @classmethod
    def from_dict(cls, spec: ModelSpec, value: Mapping[str, Any]) -> "Measure":
        said, part = value["objective"], value["slice"]
        objective = None if said is None else parse_objective(said, "objective")
        rule = LossRule(spec, value["scale"], objective, value["facts"])
        found = None if part is None else Slice.of(part["name"], part["condition"])
        return cls(value["name"], rule, value["margin"], found, value.get("further", False))


@dataclass(frozen=True, slots=True)
class Measures:
    """decisive: the first; None if the model's rows are not judged. others: further decisive ones,
    guardrails and slices. small:
    slices with too few rows, and how many they have."""

    decisive: Measure | None
    others: tuple[Measure, ...] = ()
    small: tuple[tuple[str, int], ...] = ()

    @property
    def scale(self) -> float | None:
        """Of a regression without an objective."""
        return self.decisive.rule.scale if self.decisive else None

    @property
    def all(self) -> tuple[Measure, ...]:
        return (*((self.decisive,) if self.decisive else ()), *self.others)


def measures_of(
    spec: ModelSpec, past: pa.Table, margin: float, min_slice_rows: int, min_rows: int = 1
) -> Measures:
    """Of the champion's labelled rows, with `in_…`, `out_…`, `label` and `label_number`. margin: of
    a model without an objective. Raises Rejected if they cannot serve the objective, a guardrail or
    a slice, with the reason."""
    if spec.task is None:
        return Measures(None)
    if spec.objective is None:
        decisive = Measure(QUALITY, LossRule(spec, scale_of(spec, past, min_rows)), margin)
    else:
        decisive = _measure(spec, QUALITY, spec.objective, past)
    further = tuple(
        replace(_measure(spec, one.name, one, past), further=True) for one in spec.further
    )
    guards = tuple(_measure(spec, guard.name, guard, past) for guard in spec.guardrails)
    slices = slices_of(spec, past, min_slice_rows)
    parts = tuple(
        replace(whole, name=SLICE + one.name + _of(whole), part=one, further=False)
        for whole in (decisive, *further)
        for one in slices.found
    )
    return Measures(decisive, (*further, *guards, *parts), slices.small)


def _of(whole: Measure) -> str:
    """What a slice is judged by, if the model has several objectives."""
    objective = whole.rule.objective
    return f" ({objective.name})" if whole.rule.spec.further and objective else ""


def all_losses(measures: Sequence[Measure], rows: pa.Table) -> list[Floats]:
    """The losses [n] of each measure; those of a rule are computed once."""
    known: dict[int, Floats] = {}
    for m in measures:
        if id(m.rule) not in known:
            known[id(m.rule)] = m.rule.losses(rows)
    return [m._within(rows, known[id(m.rule)]) for m in measures]


def _measure(spec: ModelSpec, name: str, objective: Objective, past: pa.Table) -> Measure:
    rule = objective_rule(spec, objective, past)
    losses = rule.losses(past)
    losses = losses[~np.isnan(losses)]
    if not losses.size:
        raise Rejected(f"metric {objective.metric!r}: none of {past.num_rows} rows counts for it")
    return Measure(name, rule, loss_margin(rule, losses))


def objective_rule(spec: ModelSpec, objective: Objective, past: pa.Table) -> LossRule:
    """Losses under an objective, measured by the champion's labelled rows. Raises Rejected as
    `learn`."""
    return LossRule(spec, None, objective, learn(spec, objective, past))


def loss_margin(rule: LossRule, losses: Floats) -> float:
    """The objective's margin as a rise of the mean loss. losses: the champion's, without NaN."""
    assert rule.objective is not None
    said, offset = rule.objective.said_margin, rule.facts.get("offset", 0.0)
    unit = rule.facts.get("unit", 1.0)
    share = relative(said)
    if share is None:
        found = float(said) / unit
    elif offset:
        found = share * offset / unit
    else:
        # Half a loss more: a champion that was never wrong has a margin too.
        found = share * (float(losses.sum()) + 0.5) / (losses.size + 1)
    return min(max(found, 1e-9), 0.99)
