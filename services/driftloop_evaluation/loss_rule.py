"""How a model's rows are judged, by the monitor, the search, the gate and the canary alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_evaluation.labels import LABEL_NUMBER, Floats, Labels, floats
from driftloop_evaluation.losses import losses_of, rating_losses
from driftloop_evaluation.objective_losses import objective_losses


@dataclass(frozen=True, slots=True)
class LossRule:
    """One way to judge rows.

    objective: None: by the task, as models without one are. scale: of a regression without an
    objective, the error that is as wrong as can be (see `scales`), in the unit of the output; None:
    values are not judged. facts: of an objective, see `objective_losses.learn`.
    """

    spec: ModelSpec
    scale: float | None = None
    objective: Objective | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    def losses(self, rows: pa.Table) -> Floats:
        """One loss for each of n rows with the columns `out_<output>`, `label` (JSON text) and
        `label_number`. Raises Rejected if they cannot serve the objective."""
        if self.objective is not None:
            return objective_losses(self.spec, self.objective, rows, self.facts)
        task, column = self.spec.task, f"{OUTPUT_PREFIX}{self.spec.output}"
        if task == "generation":
            return rating_losses(floats(rows[LABEL_NUMBER]))
        if task is None or column not in rows.column_names:
            return np.full(rows.num_rows, np.nan)
        return losses_of(task, rows[column], Labels.of_rows(rows), self.scale)

    def value(self, mean_loss: float) -> float:
        """The metric in its own unit, such as the cost of a row, of a mean loss."""
        offset, unit = self.facts.get("offset", 0.0), self.facts.get("unit", 1.0)
        return offset + (mean_loss - offset) * unit
