"""A rare class, cut from the car loan data set, and the recipe that learns it. Of the loans that
were not repaid one in 200 rows is kept: of one kind before the drift, of another kind after it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from driftloop_demo.data_set import DRIFT_ROW
from driftloop_demo.data_set import LABEL as REPAID
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes import FitContext, FittedModel
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting

LABEL = "defaulted"
SHARE = 0.005
"""Of the rows, at most, that defaulted, in each part of the data."""
COST = 20
"""Of a default that was not seen, in those of a false alert."""
KEPT_ROWS = 4_000
"""Of the rows after the drift, that only the new version is measured on."""
ROUNDS = 50
"""Which gradient boosting makes half as many more of."""
OBJECTIVE = {
    "metric": "cost", "positive": 1, "false_positive": 1, "false_negative": COST, "margin": "25%",
}  # fmt: skip


def rare_table(loans: pa.Table) -> pa.Table:
    """Return the loans with the column `defaulted` in place of `repaid`: all that were repaid, and
    few of the others. Before the drift those are small debts of small incomes, after it large debts
    that were to be paid back soon: real rows, of which a model that only saw the first kind knows
    nothing."""
    row = loans["id"].to_numpy()
    defaulted = loans[REPAID].to_numpy() == 0
    salary = np.array(loans["salary_range"].to_pylist())
    debt, length = loans["debt_to_income_ratio"].to_numpy(), loans["loan_length"].to_numpy()
    former = (salary == "0 - 20K €") & (debt <= 0.38) & (length <= 19.5)
    later = (debt > 0.49) & (length <= 7.5)
    reference = np.array(loans["part"].to_pylist()) == "reference"
    kept = ~defaulted
    for part in (reference, ~reference & (row < DRIFT_ROW), row >= DRIFT_ROW):
        kind = later if part[-1] else former
        found = np.flatnonzero(part & defaulted & kind)
        wanted = int((part & ~defaulted).sum() * SHARE / (1 - SHARE))
        kept[found[np.arange(wanted) * len(found) // wanted]] = True
    label = pa.array(defaulted.astype(np.int64))
    return loans.drop_columns([REPAID]).append_column(LABEL, label).filter(pa.array(kept))


def with_objective(spec: Path) -> None:
    """Write the objective and the recipe into the spec of a trained model."""
    document = yaml.safe_load(spec.read_text())
    document |= {"objective": OBJECTIVE, "recipe": f"{__name__}:{Costly.__name__}"}
    spec.write_text(yaml.safe_dump(document, sort_keys=False))


class Costly:
    """Gradient boosting on rows that weigh what a wrong answer to them costs. With equal weights a
    class of one in 200 rows would never be the more probable one."""

    name = "costly"

    def fit(
        self,
        train: Dataset,
        validation: Dataset | None,  # noqa: ARG002
        context: FitContext,
    ) -> FittedModel:
        """As long as ROUNDS, whatever the validation rows say: on a slow machine the rows after the
        drift repeat, so they were learned before they could say when to stop."""
        return GradientBoosting().fit(_weighed(train), None, replace(context, rounds=ROUNDS))


def _weighed(data: Dataset) -> Dataset:
    costs: NDArray[np.float64] = np.where(data.labels.astype(np.int64) == 1, float(COST), 1.0)
    return replace(data, weights=data.weights * costs)
