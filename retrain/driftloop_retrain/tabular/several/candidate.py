"""From a data set of several labels to a candidate's folder: search, steps behind each output's
answers, one graph, parity, metrics on the hold-out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driftloop_contracts.feature_rules import parse_feature_rules
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.candidate import SEARCH_SHARE
from driftloop_retrain.tabular.dataset import Dataset, Split
from driftloop_retrain.tabular.evaluate import Outputs, shown_metrics
from driftloop_retrain.tabular.export import write_reference
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.optimised_twin import optimised
from driftloop_retrain.tabular.parity import Parity, check_parity, tied_rows
from driftloop_retrain.tabular.postprocessing.choice import Wanted
from driftloop_retrain.tabular.postprocessing.fitting import fitted_steps
from driftloop_retrain.tabular.postprocessing.model import with_steps
from driftloop_retrain.tabular.recipes import FitContext, Recipe
from driftloop_retrain.tabular.search import Report
from driftloop_retrain.tabular.several.judging import Together
from driftloop_retrain.tabular.several.labels import has_label, part_of
from driftloop_retrain.tabular.several.model import ServedTogether
from driftloop_retrain.tabular.several.outputs import Classes, LabelledOutput
from driftloop_retrain.tabular.several.searching import FoundTogether, search_together
from driftloop_settings import Settings

NOT_NAMED = re.compile(r"[^\w ./-]")
"""What registries do not take in the name of a metric."""


@dataclass(frozen=True)
class CandidateTogether:
    """See Candidate. postprocessing: by label."""

    folder: Path
    signature: Signature
    found: FoundTogether
    outputs: Outputs
    metrics: dict[str, float]
    parity: Parity
    postprocessing: Mapping[str, Any]
    twin: dict[str, Any] | None


def make_together(
    settings: Settings,
    spec: ModelSpec,
    outputs: Sequence[LabelledOutput],
    inputs: tuple[TensorSpec, ...],
    parts: Split,
    recipes: Sequence[Recipe],
    classes: Mapping[str, Classes],
    work: Path,
    report: Report,
    champion: Path | None = None,
    trials: Mapping[str, int] | None = None,
    champion_until: np.datetime64 | None = None,
) -> CandidateTogether:
    """As `make_candidate`. outputs: with their classes, which are by label, as the trials of a
    search are."""
    wanted, tolerance = settings.retrain, settings.retrain.parity_tolerance
    context = FitContext(
        outputs[0].task,
        inputs,
        wanted.seed,
        work / "checkpoints",
        champion=champion,
        features=parse_feature_rules(spec.options),
        champion_until=champion_until,
    )
    found = search_together(
        spec,
        outputs,
        classes,
        parts,
        recipes,
        context,
        lambda done, words: report(done * SEARCH_SHARE, words),
        wanted,
        trials,
    )
    report(SEARCH_SHARE, "calibrating probabilities, and deciding labels by costs")
    members, measured, steps = {}, {}, {}
    for output in outputs:
        label = output.label
        chosen = fitted_steps(
            output.spec,
            classes[label],
            found.held[label],
            found.answers[label],
            Wanted(wanted.calibrate, wanted.decide == "costs"),
        )
        steps[label] = None if chosen is None else chosen.steps
        measured[label] = {} if chosen is None else chosen.measured
        members[label] = with_steps(found.members[label], steps[label])
    report(SEARCH_SHARE, "exporting to ONNX and comparing it with the native models row by row")
    folder, features = work / "version", parts.holdout.features
    ServedTogether(outputs, members, classes).export(folder)
    graph = OnnxModel(folder)
    answers: Outputs = outputs_of(graph, features)
    largest = 0.0
    for output in outputs:
        label, own = output.label, members[output.label].predict(features)
        step = steps[label]
        tied = tied_rows(own, tolerance) if step is None else step.tied(own, tolerance)
        native = output.served(own, classes[label])
        compared = {name: answers[name] for name in native}
        agreed = check_parity(features, native, compared, tolerance, tied)
        largest = max(largest, agreed.largest_difference)
    report(SEARCH_SHARE, "comparing the graph with an optimised twin")
    twin = None
    if wanted.optimise != "off":
        judged = Together.of(spec, outputs, parts.holdout, answers, settings)
        made = optimised(
            folder,
            features,
            answers,
            lambda found: judged.losses(parts.holdout, found),
            judged.margin / 10,
            forced=None if wanted.optimise == "auto" else wanted.optimise,
        )
        twin = made.record
        answers = answers if made.outputs is None else made.outputs
    write_reference(folder, parts.holdout, answers, settings.monitoring.reference_rows)
    return CandidateTogether(
        folder,
        graph.signature,
        found,
        answers,
        metrics_together(outputs, classes, parts.holdout, answers),
        Parity(features.num_rows, largest),
        measured,
        twin,
    )


def metrics_together(
    outputs: Sequence[LabelledOutput],
    classes: Mapping[str, Classes],
    held: Dataset,
    answers: Outputs,
) -> dict[str, float]:
    """See `shown_metrics`: of each output, with its label before the metric's name. answers: of the
    served graph."""
    found: dict[str, float] = {}
    for output in outputs:
        part, own = own_part(output, held, answers, classes[output.label])
        shown = shown_metrics(
            output.task, str(output.spec.output), part.labels, own, classes[output.label]
        )
        label = NOT_NAMED.sub("_", output.label)
        found |= {f"{label} {name}": value for name, value in shown.items()}
    return found


def own_part(
    output: LabelledOutput, held: Dataset, answers: Outputs, classes: Classes
) -> tuple[Dataset, Outputs]:
    """The rows that have an output's label, and what the served graph answers of it there."""
    known = has_label(held, output.label)
    own = output.own({name: values[known] for name, values in answers.items()}, classes)
    return part_of(held, output.label), own
