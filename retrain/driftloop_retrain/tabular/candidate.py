"""From a data set to a candidate's folder: search, export, parity, metrics on the hold-out.

Shared by `driftloop train` and a retrain.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.feature_rules import parse_feature_rules
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_evaluation.measures import loss_margin, objective_rule
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset, Split
from driftloop_retrain.tabular.evaluate import Outputs, loss_scale, losses, shown_metrics
from driftloop_retrain.tabular.export import answered_rows, write_reference
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.optimised_twin import Twin, optimised
from driftloop_retrain.tabular.parity import Parity, check_parity
from driftloop_retrain.tabular.postprocessing.choice import Wanted
from driftloop_retrain.tabular.postprocessing.fitting import fitted_steps
from driftloop_retrain.tabular.postprocessing.model import with_steps
from driftloop_retrain.tabular.recipes import FitContext, Recipe
from driftloop_retrain.tabular.search import Found, Report, answer_tensor, search
from driftloop_settings import Settings

SEARCH_SHARE = 0.9
"""The share of the progress for the search; the rest is export and parity."""


@dataclass(frozen=True)
class Candidate:
    """`folder` contains model.onnx and reference.parquet; outputs and metrics are on the
    hold-out."""

    folder: Path
    signature: Signature
    found: Found
    outputs: Outputs
    metrics: dict[str, float]
    parity: Parity
    postprocessing: dict[str, Any] | None = None
    """What was put behind the model's own answers, and what that gains on validation rows."""
    twin: dict[str, Any] | None = None
    """See `optimised_twin`; None: not looked for."""


def classes_of(spec: ModelSpec, data: Dataset) -> np.ndarray | None:
    """Return the label's values, ascending; None for a regression. Raises Rejected for fewer than
    two."""
    if spec.task != "classification":
        return None
    classes = np.unique(data.labels)
    if len(classes) < 2:
        raise Rejected(f"all labels are {classes[0]!r}: there is nothing to learn")
    return classes


def with_classes(spec: ModelSpec, classes: np.ndarray | None) -> ModelSpec:
    """The spec with the classes of the candidate's probabilities, which objectives are judged by.
    Raises Rejected if they are not the champion's."""
    if classes is None or not (spec.objective or spec.guardrails):
        return spec
    names = tuple(class_name(value) for value in classes.tolist())
    if spec.classes and spec.classes != names:
        raise Rejected(
            f"the labels have the classes {listed(names)}, and the model's probabilities are of "
            f"{listed(spec.classes)}"
        )
    return replace(spec, classes=names)


def make_candidate(
    settings: Settings,
    spec: ModelSpec,
    inputs: tuple[TensorSpec, ...],
    parts: Split,
    recipes: list[Recipe],
    classes: np.ndarray | None,
    work: Path,
    report: Report,
    champion: Path | None = None,
    trials: int | None = None,
    champion_until: np.datetime64 | None = None,
) -> Candidate:
    """Search and export into `work`/version. champion: the folder of the version to beat.
    trials: of a search to repeat. champion_until: see FitContext. Raises
    ParityBroken, Rejected, or what a recipe raises."""
    spec = with_classes(spec, classes)
    if spec.task is None:
        raise Rejected(f"model {spec.name!r} has no task: there is nothing to train it for")
    context = FitContext(
        spec.task,
        inputs,
        settings.retrain.seed,
        work / "checkpoints",
        classes=classes,
        champion=champion,
        features=parse_feature_rules(spec.options),
        champion_until=champion_until,
    )
    found = search(
        spec,
        parts,
        recipes,
        context,
        lambda done, words: report(done * SEARCH_SHARE, words),
        settings.retrain,
        trials,
    )
    report(SEARCH_SHARE, "calibrating probabilities, and deciding labels by costs")
    wanted = Wanted(
        settings.retrain.calibrate,
        settings.retrain.decide == "costs",
        settings.retrain.interval,
        settings.retrain.prediction_set,
    )
    chosen = fitted_steps(spec, classes, found.held, found.answers, wanted)
    steps = None if chosen is None else chosen.steps
    further = None if chosen is None else chosen.further
    model = with_steps(with_steps(found.model, steps), further)
    report(SEARCH_SHARE, "exporting to ONNX and comparing it with the native model row by row")
    folder = work / "version"
    folder.mkdir(parents=True, exist_ok=True)
    model.export(folder)
    graph = OnnxModel(folder)
    features = parts.holdout.features
    outputs = outputs_of(graph, features)
    native, tolerance = model.predict(features), settings.retrain.parity_tolerance
    close = [each.tied(native, tolerance) for each in (steps, further) if each is not None]
    tied = np.logical_or.reduce(close) if close else None
    parity = check_parity(features, native, outputs, tolerance, tied)
    tensor = answer_tensor(spec)
    if tensor not in outputs:
        raise Rejected(f"the candidate has no output {tensor!r}; it has {sorted(outputs)}")
    report(SEARCH_SHARE, "comparing the graph with an optimised twin")
    twin = _twin(settings, spec, folder, parts.holdout, outputs)
    answers = outputs if twin is None or twin.outputs is None else twin.outputs
    write_reference(folder, parts.holdout, answers, settings.monitoring.reference_rows)
    measured = shown_metrics(spec.task, tensor, parts.holdout.labels, answers, classes)
    return Candidate(
        folder,
        graph.signature,
        found,
        answers,
        measured,
        parity,
        None if chosen is None else chosen.measured or None,
        None if twin is None else twin.record,
    )


def _twin(
    settings: Settings, spec: ModelSpec, folder: Path, held: Dataset, outputs: Outputs
) -> Twin | None:
    """Its loss may rise by a tenth of what matters."""
    wanted, task = settings.retrain.optimise, spec.task
    if wanted == "off" or task is None:
        return None
    if spec.objective is None:
        answer, margin = answer_tensor(spec), settings.monitoring.performance_margin
        scale = loss_scale(task, held.labels, outputs[answer])

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return losses(task, held.labels, answers[answer], scale)
    else:
        rows = answered_rows(held, outputs)
        rule = objective_rule(spec, spec.objective, rows)
        found = rule.losses(rows)
        margin = loss_margin(rule, found[~np.isnan(found)])

        def lost(answers: Outputs) -> NDArray[np.float64]:
            return rule.losses(answered_rows(held, answers))

    return optimised(
        folder,
        held.features,
        outputs,
        lost,
        margin / 10,
        forced=None if wanted == "auto" else wanted,
    )
