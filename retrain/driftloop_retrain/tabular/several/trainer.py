"""The trainer of models with several labels: one multi-task network or one model for each."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_contracts.signature import Signature
from driftloop_contracts.training_rules import parse_training_rules
from driftloop_evaluation.measures import objective_rule
from driftloop_lake.port import Pin
from driftloop_onnx import OnnxModel
from driftloop_retrain.job.trainer import (
    Report,
    Tell,
    Trained,
    TrainedAgain,
    TrainingContext,
    TrainingOrder,
)
from driftloop_retrain.record.graph_identity import graph_hash
from driftloop_retrain.record.lineage import Lineage
from driftloop_retrain.record.outcome import Outcome
from driftloop_retrain.record.pinning import or_later
from driftloop_retrain.tabular.baseline import constant_outputs
from driftloop_retrain.tabular.data_checks import DataReport, suspected_labels
from driftloop_retrain.tabular.dataset import Dataset, Split, from_lake, split
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.evaluation.evaluation_record import (
    Compared,
    candidates_of,
    evaluation_of,
)
from driftloop_retrain.tabular.evaluation.new_rows import new_rows
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.label_arrival import label_arrival
from driftloop_retrain.tabular.recipes import FitContext, Recipe, recipe_names
from driftloop_retrain.tabular.search import Trial
from driftloop_retrain.tabular.several.candidate import (
    CandidateTogether,
    make_together,
    metrics_together,
    own_part,
)
from driftloop_retrain.tabular.several.data import checked_together, classes_together, partly
from driftloop_retrain.tabular.several.judging import judge_together
from driftloop_retrain.tabular.several.labels import has_label, labels_in_lake, part_of
from driftloop_retrain.tabular.several.outputs import (
    Classes,
    LabelledOutput,
    outputs_of_champion,
    tasks_of,
    with_label_classes,
)
from driftloop_retrain.tabular.several.searching import EACH, TOGETHER
from driftloop_retrain.tabular.trainer import (
    champion_until_of,
    check_signature,
    folder_of,
    recipes_of,
)


@dataclass(frozen=True)
class _Prepared:
    """The rows of a training, split, and its outputs with their classes. found: by the checks."""

    data: Dataset
    rows: Split
    found: DataReport
    outputs: tuple[LabelledOutput, ...]
    classes: Mapping[str, Classes]


class SeveralTrainer:
    artifact = "graph"

    def train(self, context: TrainingContext, order: TrainingOrder, tell: Tell) -> Trained:
        settings, spec, champion = context.settings, order.spec, order.champion
        names = recipe_names(spec.recipe, order.recipes, settings.retrain.families, several=True)
        until = champion_until_of(context, champion.version, spec.name)
        tell("data", 0.0, "reading the labelled rows from the lake")
        recipes = recipes_of(names)
        arrival: dict[str, Any] = {}

        def arrived(labelled: pa.Table) -> None:
            arrival.update(label_arrival(context.lake, spec.name, order.pin, labelled))

        made = _prepared(
            context, spec, champion.signature, order.pin, order.as_of, order.change_at, arrived
        )
        data, rows = made.data, made.rows
        said = partly(data, made.classes)
        tell("data", 0.02, rows.words + (f": {said}" if said else ""))
        candidate = make_together(
            settings,
            spec,
            made.outputs,
            champion.signature.inputs,
            rows,
            list(recipes.values()),
            made.classes,
            order.work,
            lambda done, words: tell("train", 0.02 + 0.9 * done, words),
            Path(champion.path),
            champion_until=until,
        )
        check_signature(candidate.signature, champion.signature)
        tell("train", 0.93, candidate.found.words)
        tell("gate", 0.94, "comparing it with the champion on the newest rows")
        theirs = outputs_of(OnnxModel(champion.path), rows.holdout.features)
        verdict = judge_together(
            spec, made.outputs, made.classes, rows, candidate.outputs, theirs, settings
        )
        tell("gate", 0.95, "measuring it for its report")
        found = candidate.found
        best = next(iter(found.best.values()))
        outcome = Outcome(
            family=_family(candidate),
            span=best.span.name,
            rounds=best.rounds,
            rows=data.rows,
            fresh_rows=rows.fresh_rows,
            data=data.source,
            trained_rows=rows.fit.rows,
            holdout_rows=rows.holdout.rows,
            metrics=candidate.metrics,
            champion_metrics=metrics_together(made.outputs, made.classes, rows.holdout, theirs),
            gate=verdict,
            details={
                "data_range": [str(data.at[0]), str(data.at[-1])],
                "data_checks": made.found.to_dict(),
                "labels": arrival,
                "new_rows": new_rows(data, until),
                "twin": candidate.twin,
                "search": dict(found.record),
                "trials": [trial.to_dict() for trial in found.trials.get(TOGETHER, ())],
                "outputs": {
                    output.label: _output(output, made, candidate, champion, theirs, order.work)
                    for output in made.outputs
                },
                "parity": asdict(candidate.parity),
            },
        )
        decided = {"optimise": (candidate.twin or {}).get("form", "off")}
        return Trained(outcome, recipes, graph_hash(candidate.folder), settings=decided)

    def reproduce(
        self, context: TrainingContext, lineage: Lineage, work: Path, report: Report
    ) -> TrainedAgain:
        training, data = lineage.training, lineage.data
        spec = ModelSpec.from_dict(training.spec)
        signature = Signature.from_dict(training.signature)
        recipes: Mapping[str, Recipe] = recipes_of(training.recipes)
        pin = Pin(data.predictions, data.labels)
        report(0.0, f"reading predictions@{pin.predictions} labels@{pin.labels} from the lake")
        made = _prepared(context, spec, signature, pin, data.as_of, data.change_at)
        candidate = make_together(
            context.settings,
            spec,
            made.outputs,
            signature.inputs,
            made.rows,
            list(recipes.values()),
            made.classes,
            work,
            report,
            folder_of(context, spec.name, lineage.parent_version),
            trials=training.trials_of,
            champion_until=champion_until_of(context, lineage.parent_version, spec.name),
        )
        best = next(iter(candidate.found.best.values()))
        exact = (
            ("rows", data.rows, made.data.rows),
            ("trained rows", data.trained_rows, made.rows.fit.rows),
            ("hold-out rows", data.holdout_rows, made.rows.holdout.rows),
            ("family", training.family, _family(candidate)),
            ("span", training.span, best.span.name),
        )
        return TrainedAgain(
            exact,
            candidate.metrics,
            recipes,
            graph_hash(candidate.folder),
            may_differ=any(not getattr(r, "deterministic", True) for r in recipes.values()),
        )


def _prepared(
    context: TrainingContext,
    spec: ModelSpec,
    signature: Signature,
    pin: Pin,
    as_of: datetime,
    change_at: datetime | None,
    look: Callable[[pa.Table], None] = lambda _: None,
) -> _Prepared:
    """Raises Rejected if the rows or the outputs cannot be trained."""
    settings, tasks = context.settings.retrain, tasks_of(spec)
    plain = outputs_of_champion(spec, signature)
    kinds = {output.label: (output.task, output.datatype) for output in plain}
    read = or_later(
        "the lake",
        lambda: from_lake(
            context.lake,
            spec,
            signature,
            pin,
            as_of,
            settings.max_rows,
            look,
            lambda table: labels_in_lake(table, kinds),
        ),
    )
    data, found = checked_together(read, tasks, parse_training_rules(spec.options), settings)
    classes = classes_together(data, tasks)
    outputs = with_label_classes(plain, classes)
    return _Prepared(data, split(data, settings, change_at), found, outputs, classes)


def _family(candidate: CandidateTogether) -> str:
    """Which won; of one model for each label, which won for each."""
    found = candidate.found
    if found.family != EACH:
        return found.family
    return ", ".join(f"{label}: {best.family}" for label, best in found.best.items())


def _judged(
    output: LabelledOutput, held: Dataset, answers: Outputs
) -> Callable[[Dataset, Outputs], NDArray[np.float64]]:
    """The losses of rows with the label, measured by one model's answers to those held."""
    assert output.spec.objective is not None
    rule = objective_rule(output.spec, output.spec.objective, answered_rows(held, answers))
    return lambda part, found: rule.losses(answered_rows(part, found))


def _trials(
    output: LabelledOutput, made: _Prepared, candidate: CandidateTogether, champion: OnnxModel
) -> list[dict[str, Any]]:
    """Of the label's own search, on the validation rows."""
    label, classes = output.label, made.classes[output.label]
    held, fit = candidate.found.held[label], part_of(made.rows.fit, label).labels

    def lost(trial: Trial, answers: Outputs) -> NDArray[np.float64]:
        assert trial.rule is not None
        return trial.rule.losses(answered_rows(held, answers))

    return candidates_of(
        candidate.found.trials.get(label, ()),
        held,
        output.own(outputs_of(champion, held.features), classes),
        lambda outputs: constant_outputs(fit, outputs),
        lost,
    )


def _output(
    output: LabelledOutput,
    made: _Prepared,
    candidate: CandidateTogether,
    champion: ServedVersion,
    theirs: Outputs,
    work: Path,
) -> dict[str, Any]:
    """Of one label: what a report of a model with it alone has."""
    label, classes = output.label, made.classes[output.label]
    held, ours = own_part(output, made.rows.holdout, candidate.outputs, classes)
    _, others = own_part(output, made.rows.holdout, theirs, classes)
    evaluation = evaluation_of(
        Compared(
            output.spec,
            held,
            classes,
            candidate.folder,
            ours,
            Path(champion.path),
            others,
            _judged(output, held, others),
            lambda answers: output.own(answers, classes),
        )
    )
    fit = part_of(made.rows.fit, label)
    context = FitContext(output.task, champion.signature.inputs, 0, work / "checkpoints")
    return {
        "rows": int(has_label(made.data, label).sum()),
        "task": output.task,
        "suspected_labels": suspected_labels(fit, context),
        "trials": _trials(output, made, candidate, OnnxModel(champion.path)),
        "postprocessing": candidate.postprocessing[label],
        "evaluation": evaluation,
    }
