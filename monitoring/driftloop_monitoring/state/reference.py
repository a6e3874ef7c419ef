"""The reference with which a version's windows are compared, and its loss baseline.

It is `reference.parquet` in the version's folder: rows that the model was not trained on. For a
model deployed without one, the first rows that it answers become the reference, which is written to
a file so that it stays the same after a restart.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from driftloop_artifacts import IN_PLACE, Artifacts
from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX, with_todays_names
from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_evaluation.labelled_metrics import confidence
from driftloop_evaluation.labels import LABEL, LABEL_NUMBER, Floats
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.measures import Measure, Measures, measures_of
from driftloop_evaluation.scales import UNIT_SCALE, scale_of
from driftloop_monitoring.state.kind_checks import CHECKS
from driftloop_monitoring.statistics.columns import Column, columns_of
from driftloop_monitoring.statistics.expected_loss import Expected, LossByConfidence
from driftloop_monitoring.statistics.performance import LossBaseline

FILE = "reference.parquet"
MIN_BASELINE_ROWS = 200
JUDGED_SHARE = 0.95
"""Of the labelled rows of a reference: some of them may have failed."""


@dataclass(frozen=True)
class Watched:
    """A further objective, a guardrail or a slice that is tested beside the first objective, and
    what is normal for it."""

    measure: Measure
    baseline: LossBaseline


@dataclass(frozen=True)
class Reference:
    """`baseline`: None if too few rows have labels. `live`: made of the first live rows. `margin`:
    of the objective, None: the policy's. `watched`: tested too. `few`: slices and guardrails that
    are not, as too few rows count. `problem`: why the rows cannot be judged by the objective."""

    table: pa.Table
    losses: LossRule
    baseline: LossBaseline | None
    live: bool = False
    inputs: Mapping[str, Column] = field(default_factory=dict)
    outputs: Mapping[str, Column] = field(default_factory=dict)
    margin: float | None = None
    watched: tuple[Watched, ...] = ()
    few: tuple[str, ...] = ()
    problem: str = ""
    by_confidence: LossByConfidence | None = None
    """What is expected of rows without labels; None: the model has no probabilities, or its
    objective does not judge every row."""

    def expected(self, rows: pa.Table, dispersion: float) -> Expected | None:
        """The loss that these rows will have; None: nothing can be said without labels. dispersion:
        of the losses of the model's rows."""
        if self.by_confidence is None:
            return None
        sure = confidence(self.losses.spec, rows)
        return None if sure is None else self.by_confidence.expected(sure, dispersion)

    def rule(self, name: str) -> LossRule:
        """Of the measure with this name."""
        found = (one.measure.rule for one in self.watched if one.measure.name == name)
        return next(found, self.losses)

    def normal(self, name: str) -> tuple[LossBaseline | None, float | None]:
        """The baseline and the margin of the measure with this name; no margin: the policy's."""
        found = next((one for one in self.watched if one.measure.name == name), None)
        if found is None:
            return self.baseline, self.margin
        return found.baseline, found.measure.margin or self.margin

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def nbytes(self) -> int:
        """About what it takes in memory, with what columns keep of their values. A text takes about
        60 bytes, and 100 more as a key of `tally`."""
        size = int(self.table.nbytes)
        for column in (*self.inputs.values(), *self.outputs.values()):
            texts = len(column.tally) if column.kind == "category" else 0
            size += 2 * column.values.nbytes + 160 * texts
        return size

    @property
    def without_rows(self) -> "Reference":
        """What is normal, for a thousandth of the memory."""
        return replace(self, table=self.table[:0], inputs={}, outputs={})

    def columns(self, rows: pa.Table | None = None) -> dict[str, Column]:
        """The columns of the reference, or of rows, that are checked: `in_…` and `out_…`."""
        inputs, outputs = self.inputs, self.outputs
        if rows is not None:
            seen = judged(self.losses.spec, rows)
            inputs, outputs = columns_of(seen, INPUT_PREFIX), columns_of(seen, OUTPUT_PREFIX)
        sides = ((INPUT_PREFIX, inputs), (OUTPUT_PREFIX, outputs))
        return {prefix + name: c for prefix, side in sides for name, c in side.items()}

    def without(self, columns: Collection[str]) -> "Reference":
        """Return the reference without these tensors, which the lake does not contain as they were
        served."""
        if not columns:
            return self
        hidden = {prefix + c for prefix in (INPUT_PREFIX, OUTPUT_PREFIX) for c in columns}

        def seen(found: Mapping[str, Column]) -> dict[str, Column]:
            return {
                name: c
                for name, c in found.items()
                if name not in columns and name.rpartition("[")[0] not in columns
            }

        table = self.table.select([name for name in self.table.column_names if name not in hidden])
        return replace(self, table=table, inputs=seen(self.inputs), outputs=seen(self.outputs))


def reference_of(spec: ModelSpec, table: pa.Table, *, live: bool) -> Reference:
    """From rows with `in_…`, `out_…`, `label` and `label_number` columns."""
    rule = LossRule(spec, scale_of(spec, table) or UNIT_SCALE, spec.objective)
    measures, problem = Measures(None), ""
    if LABEL_NUMBER in table.column_names:
        try:
            measures = measures_of(spec, table, 0.0, MIN_BASELINE_ROWS)
        except Rejected as error:
            problem = str(error)
    if spec.objective is not None and measures.decisive is not None:
        rule = measures.decisive.rule
    watched, few = [], [f"slice {name} ({rows} rows)" for name, rows in measures.small]
    for measure in measures.others:
        by_task = measure.part is not None and spec.objective is None
        one = replace(measure, rule=rule) if by_task else measure
        baseline = _baseline(one.losses(table))
        if baseline is not None:
            watched.append(Watched(one, baseline))
        else:
            few.append(f"{one.name} (fewer than {MIN_BASELINE_ROWS} rows)")
    known = measures.decisive is not None
    losses = rule.losses(table) if known else np.empty(0)
    seen = judged(spec, table)
    return Reference(
        table,
        rule,
        _baseline(losses),
        live,
        columns_of(seen, INPUT_PREFIX),
        columns_of(seen, OUTPUT_PREFIX),
        measures.decisive.margin if spec.objective and measures.decisive else None,
        tuple(watched),
        tuple(few),
        problem,
        _by_confidence(spec, table, losses) if known else None,
    )


def _by_confidence(spec: ModelSpec, table: pa.Table, losses: Floats) -> LossByConfidence | None:
    labelled = table[LABEL].is_valid().to_numpy()
    judged = np.isfinite(losses).sum()
    if judged < JUDGED_SHARE * labelled.sum():  # by a miss rate, which is of the positive rows
        return None
    sure = confidence(spec, table)
    return None if sure is None else LossByConfidence.learn(sure, losses)


def _baseline(losses: Floats) -> LossBaseline | None:
    losses = losses[~np.isnan(losses)]
    return LossBaseline.of(losses) if len(losses) >= MIN_BASELINE_ROWS else None


def judged(spec: ModelSpec, table: pa.Table) -> pa.Table:
    """Convert rows to the columns that are checked."""
    return CHECKS[spec.kind].seen(table)


def load(
    spec: ModelSpec, served: ServedVersion, live: Path, artifacts: Artifacts = IN_PLACE
) -> Reference | None:
    """Load the version's reference from its folder, else from `live`; None if there is none."""
    with artifacts.use(served.path) as folder:
        own = (folder if folder.is_dir() else folder.parent) / FILE
        if own.is_file():
            return reference_of(spec, with_todays_names(pq.read_table(own)), live=False)
    if artifacts.bring(_name(live), live):
        return reference_of(spec, with_todays_names(pq.read_table(live)), live=True)
    return None


def live_file(state_dir: Path, model: str, version: int) -> Path:
    """Return the path of a version's live reference."""
    return state_dir / "monitor" / f"{model}-{version}.parquet"


def keep(table: pa.Table, live: Path, artifacts: Artifacts = IN_PLACE) -> None:
    """Write the live reference, atomically; other machines find it, too."""
    live.parent.mkdir(parents=True, exist_ok=True)
    part = live.with_suffix(".part")
    pq.write_table(table, part)
    part.replace(live)
    artifacts.keep(_name(live), live)


def _name(live: Path) -> str:
    return f"references/{live.name}"
