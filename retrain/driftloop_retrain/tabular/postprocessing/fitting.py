"""Fits the steps behind the winner of a search, on its answers to validation rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import objective_rule
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluate import Outputs, loss_scale, losses
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.postprocessing.choice import Choice, Wanted, choose_steps
from driftloop_retrain.tabular.postprocessing.interval import fit_interval
from driftloop_retrain.tabular.search import answer_tensor


def fitted_steps(
    spec: ModelSpec,
    classes: NDArray[np.generic] | None,
    held: Dataset,
    outputs: Outputs,
    wanted: Wanted,
) -> Choice | None:
    """held, outputs: n rows with answers of a model that was not trained on them. None: there is
    nothing to choose for this model."""
    answer = answer_tensor(spec)
    if spec.task == "regression" and wanted.interval is not None:
        columns = held.features.column_names
        return _interval(outputs[answer].reshape(-1), held.labels, wanted.interval, columns)
    if spec.task != "classification":
        return None
    if spec.objective is None:
        scale = loss_scale("classification", held.labels, outputs[answer])

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return losses("classification", held.labels, answers[answer], scale)
    else:
        rule = objective_rule(spec, spec.objective, answered_rows(held, outputs))

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return rule.losses(answered_rows(held, answers))

    return choose_steps(spec, classes, held.labels, outputs, lost, wanted)


def _interval(
    values: NDArray[Any], labels: NDArray[np.generic], coverage: float, columns: list[str]
) -> Choice:
    """Raises Rejected with too few rows: clients expect the outputs."""
    found = fit_interval(values, labels, coverage, columns)
    if found is None:
        raise Rejected(
            f"{len(values)} validation rows are too few for an interval that covers {coverage:.0%} "
            "of the labels (retrain.interval)"
        )
    measured = {**found.to_dict(), "rows": len(values)}
    return Choice(found, np.zeros(0), measured)
