"""The reference with which a version's windows are compared, and its loss baseline.

It is `reference.parquet` in the version's folder: rows that the model was not trained on. For a
model deployed without one, the first rows that it answers become the reference, which is written to
a file so that it stays the same after a restart.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX, with_todays_names
from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_evaluation.labels import LABEL_NUMBER
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.scales import UNIT_SCALE, scale_of
from driftloop_monitoring.state.kind_checks import CHECKS
from driftloop_monitoring.statistics.columns import Column, columns_of
from driftloop_monitoring.statistics.performance import LossBaseline

FILE = "reference.parquet"
MIN_BASELINE_ROWS = 200


@dataclass(frozen=True)
class Reference:
    """`baseline`: None if too few rows have labels. `live`: made of the first live rows."""

    table: pa.Table
    losses: LossRule
    baseline: LossBaseline | None
    live: bool = False
    inputs: Mapping[str, Column] = field(default_factory=dict)
    outputs: Mapping[str, Column] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

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
    rule = LossRule(spec, scale_of(spec, table) or UNIT_SCALE)
    known = LABEL_NUMBER in table.column_names
    losses = rule.losses(table) if known and spec.task else np.array([])
    losses = losses[~np.isnan(losses)]
    baseline = LossBaseline.of(losses) if len(losses) >= MIN_BASELINE_ROWS else None
    seen = judged(spec, table)
    inputs, outputs = columns_of(seen, INPUT_PREFIX), columns_of(seen, OUTPUT_PREFIX)
    return Reference(table, rule, baseline, live, inputs, outputs)


def judged(spec: ModelSpec, table: pa.Table) -> pa.Table:
    """Convert rows to the columns that are checked."""
    return CHECKS[spec.kind].seen(table)


def load(spec: ModelSpec, served: ServedVersion, live: Path) -> Reference | None:
    """Load the version's reference from its folder, else from `live`; None if there is none."""
    folder = Path(served.path)
    own = (folder if folder.is_dir() else folder.parent) / FILE
    for path in (own, live):
        if path.is_file():
            table = with_todays_names(pq.read_table(path))
            return reference_of(spec, table, live=path is live)
    return None


def live_file(state_dir: Path, model: str, version: int) -> Path:
    """Return the path of a version's live reference."""
    return state_dir / "monitor" / f"{model}-{version}.parquet"


def keep(table: pa.Table, live: Path) -> None:
    """Write the live reference, atomically."""
    live.parent.mkdir(parents=True, exist_ok=True)
    part = live.with_suffix(".part")
    pq.write_table(table, part)
    part.replace(live)
