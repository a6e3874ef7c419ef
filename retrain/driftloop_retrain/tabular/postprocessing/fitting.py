"""Fits the steps behind the winner of a search, on its answers to validation rows."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import probabilities_of
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import objective_rule
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluate import Outputs, loss_scale, losses
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.postprocessing.choice import Choice, Wanted, choose_steps
from driftloop_retrain.tabular.postprocessing.interval import fit_interval
from driftloop_retrain.tabular.postprocessing.prediction_set import fit_prediction_set
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

    found = choose_steps(spec, classes, held.labels, outputs, lost, wanted)
    if wanted.prediction_set is None or classes is None:
        return found
    return _with_set(found, classes, held, wanted.prediction_set)


def _with_set(
    found: Choice, classes: NDArray[np.generic], held: Dataset, coverage: float
) -> Choice:
    """Raises Rejected without probabilities, or with too few rows: clients expect the output."""
    p = probabilities_of(found.answers)
    if p is None or p.shape[1:] != (len(classes),):
        raise Rejected(
            "a set of classes (retrain.prediction_set) needs a model with the probabilities of "
            f"{len(classes)} classes"
        )
    place = np.searchsorted(classes, held.labels)
    further = fit_prediction_set(p, place, coverage, held.features.column_names)
    if further is None:
        raise Rejected(
            f"{held.rows} validation rows are too few for a set of classes that covers "
            f"{coverage:.0%} of the labels (retrain.prediction_set)"
        )
    measured = {**found.measured, **further.to_dict(), "rows": held.rows}
    return replace(found, further=further, measured=measured)


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
