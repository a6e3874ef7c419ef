"""The trainer of tabular models: families of recipes compete, and the winner is exported to
ONNX."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.graph_names import PREDICTION_SET, probabilities_of
from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_contracts.signature import Signature
from driftloop_contracts.training_rules import parse_training_rules
from driftloop_evaluation.measures import measures_of
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
from driftloop_retrain.record.gate_result import GateResult
from driftloop_retrain.record.graph_identity import graph_hash
from driftloop_retrain.record.lineage import Lineage, read_lineage
from driftloop_retrain.record.outcome import Outcome
from driftloop_retrain.record.pinning import or_later
from driftloop_retrain.tabular.baseline import constant_outputs, with_baseline
from driftloop_retrain.tabular.candidate import (
    Candidate,
    classes_of,
    make_candidate,
    with_classes,
)
from driftloop_retrain.tabular.data_checks import checked, suspected_labels
from driftloop_retrain.tabular.dataset import Dataset, Split, from_lake, split
from driftloop_retrain.tabular.evaluate import (
    ColumnSlice,
    Outputs,
    loss_scale,
    losses,
    shown_metrics,
)
from driftloop_retrain.tabular.evaluation.evaluation_record import (
    Compared,
    candidates_of,
    evaluation_of,
)
from driftloop_retrain.tabular.evaluation.new_rows import new_rows
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.gate import Guard, gate
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.label_arrival import label_arrival
from driftloop_retrain.tabular.postprocessing.interval import ENDS
from driftloop_retrain.tabular.recipes import FitContext, Recipe, find_recipe, recipe_names
from driftloop_retrain.tabular.recipes.ensemble import ENSEMBLE
from driftloop_retrain.tabular.recipes.recipe_catalogue import CONTINUED
from driftloop_retrain.tabular.search import Trial, answer_tensor
from driftloop_settings import Settings


class TabularTrainer:
    artifact = "graph"

    def train(self, context: TrainingContext, order: TrainingOrder, tell: Tell) -> Trained:
        settings, spec, champion = context.settings, order.spec, order.champion
        names = recipe_names(spec.recipe, order.recipes, settings.retrain.families)
        until = champion_until_of(context, champion.version, spec.name)
        if until is not None and settings.retrain.continue_champion and settings.retrain.budget_s:
            names = tuple(dict.fromkeys((*names, CONTINUED)))
        tell("data", 0.0, "reading the labelled rows from the lake")
        recipes = recipes_of(names)
        arrival: dict[str, Any] = {}

        def arrived(labelled: pa.Table) -> None:
            arrival.update(label_arrival(context.lake, spec.name, order.pin, labelled))

        read = _read(context, spec, champion.signature, order.pin, order.as_of, arrived)
        if spec.task is None:
            raise Rejected(f"model {spec.name!r} has no task: there is nothing to train it for")
        tell("data", 0.01, f"checking {read.rows:,} labelled rows")
        data, found = checked(read, spec.task, parse_training_rules(spec.options), settings.retrain)
        rows = split(data, settings.retrain, order.change_at)
        tell("data", 0.02, rows.words)
        inputs = champion.signature.inputs
        look = FitContext(spec.task, inputs, settings.retrain.seed, order.work / "checkpoints")
        found = replace(found, suspected_labels=suspected_labels(rows.fit, look))
        candidate = make_candidate(
            settings,
            spec,
            champion.signature.inputs,
            rows,
            list(recipes.values()),
            classes_of(spec, data),
            order.work,
            lambda done, words: tell("train", 0.02 + 0.9 * done, words),
            Path(champion.path),
            champion_until=until,
        )
        check_signature(candidate.signature, champion.signature)
        tell("gate", 0.94, "comparing it with the champion on the newest rows")
        judged = _judge(settings, spec, champion, candidate, rows, data)
        tell("gate", 0.95, "measuring it for its report")
        best = candidate.found.best
        outcome = Outcome(
            family=best.family,
            span=best.span.name,
            rounds=best.rounds,
            rows=data.rows,
            fresh_rows=rows.fresh_rows,
            data=data.source,
            trained_rows=rows.fit.rows,
            holdout_rows=rows.holdout.rows,
            metrics=candidate.metrics,
            champion_metrics=judged.champion_metrics,
            gate=judged.verdict,
            details={
                "data_range": [str(data.at[0]), str(data.at[-1])],
                "data_checks": found.to_dict(),
                "labels": arrival,
                "new_rows": new_rows(data, until),
                "evaluation": evaluation_of(judged.both),
                "postprocessing": candidate.postprocessing,
                "twin": candidate.twin,
                "trials": _trials(judged, candidate, rows),
                "search": dict(candidate.found.record),
                "parity": asdict(candidate.parity),
            },
        )
        # Times differ from run to run: a training that is repeated does what this one did.
        decided = {"optimise": (candidate.twin or {}).get("form", "off")}
        return Trained(outcome, recipes, graph_hash(candidate.folder), settings=decided)

    def reproduce(
        self, context: TrainingContext, lineage: Lineage, work: Path, report: Report
    ) -> TrainedAgain:
        training, data = lineage.training, lineage.data
        spec = ModelSpec.from_dict(training.spec)
        signature = Signature.from_dict(training.signature)
        recipes = recipes_of(training.recipes)
        pin = Pin(data.predictions, data.labels)
        report(0.0, f"reading predictions@{pin.predictions} labels@{pin.labels} from the lake")
        read = _read(context, spec, signature, pin, data.as_of)
        rules = parse_training_rules(spec.options)
        found, _ = checked(read, spec.task, rules, context.settings.retrain)
        rows = split(found, context.settings.retrain, data.change_at)
        candidate = make_candidate(
            context.settings,
            spec,
            signature.inputs,
            rows,
            list(recipes.values()),
            classes_of(spec, found),
            work,
            report,
            folder_of(context, spec.name, lineage.parent_version),
            trials=training.trials,
            champion_until=champion_until_of(context, lineage.parent_version, spec.name),
        )
        best = candidate.found.best
        exact = (
            ("rows", data.rows, found.rows),
            ("trained rows", data.trained_rows, rows.fit.rows),
            ("hold-out rows", data.holdout_rows, rows.holdout.rows),
            ("family", training.family, best.family),
            ("span", training.span, best.span.name),
        )
        return TrainedAgain(
            exact,
            candidate.metrics,
            recipes,
            graph_hash(candidate.folder),
            may_differ=any(
                not getattr(recipe, "deterministic", True)
                for recipe in recipes.values()
                if best.family in (recipe.name, ENSEMBLE)
            ),
        )


def folder_of(context: TrainingContext, model: str, version: int) -> Path | None:
    try:
        return Path(context.at_hand(context.registry.version(model, version).served).path)
    except NotFound:  # it was removed; only recipes that start from it differ
        return None


def champion_until_of(context: TrainingContext, version: int, model: str) -> np.datetime64 | None:
    """When the newest row that the version can have been trained on was predicted. The first
    version is older than all rows that were served; another one says so in its lineage."""
    if version == 1:
        return np.datetime64(0, "us")
    try:
        lineage = read_lineage(context.registry.version(model, version))
    except (NotFound, Rejected):
        return None
    if lineage is None:
        return None
    as_of = lineage.data.as_of.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(as_of, "us")


def recipes_of(names: Iterable[str]) -> dict[str, Recipe]:
    return {name: find_recipe(name) for name in names}


def _read(
    context: TrainingContext,
    spec: ModelSpec,
    signature: Signature,
    pin: Pin,
    as_of: datetime,
    look: Callable[[pa.Table], None] = lambda _: None,
) -> Dataset:
    max_rows = context.settings.retrain.max_rows
    return or_later(
        "the lake", lambda: from_lake(context.lake, spec, signature, pin, as_of, max_rows, look)
    )


def check_signature(ours: Signature, theirs: Signature) -> None:
    """Raises Rejected unless both have the same inputs, and ours the outputs of theirs, since both
    answer the same requests. Ours may have an interval or a set that theirs
    lacks."""
    for side in ("inputs", "outputs"):
        new = {(t.name, t.datatype, t.shape[1:]) for t in getattr(ours, side)}
        old = {(t.name, t.datatype, t.shape[1:]) for t in getattr(theirs, side)}
        further = (*ENDS, PREDICTION_SET)
        added = {each for each in new - old if side == "outputs" and each[0].rstrip("_") in further}
        if new - added != old:
            names = sorted({name for name, *_ in (new - added) ^ old})
            raise Rejected(f"the candidate's {side} differ from the champion's: {', '.join(names)}")


@dataclass(frozen=True)
class _Judged:
    verdict: GateResult
    champion_metrics: dict[str, float]
    both: Compared
    champion: OnnxModel


def _trials(judged: _Judged, candidate: Candidate, rows: Split) -> list[dict[str, Any]]:
    """On the validation rows, where a trial's losses are its own."""
    held, task = candidate.found.held, judged.both.spec.task
    assert task is not None
    output = answer_tensor(judged.both.spec)

    def lost(trial: Trial, outputs: Outputs) -> NDArray[np.float64]:
        if trial.rule is None:
            return losses(task, held.labels, outputs[output], trial.scale)
        return trial.rule.losses(answered_rows(held, outputs))

    champion = outputs_of(judged.champion, held.features)
    return candidates_of(
        candidate.found.trials,
        held,
        champion,
        lambda outputs: constant_outputs(rows.fit.labels, outputs),
        lost,
    )


def _judge(
    settings: Settings,
    spec: ModelSpec,
    champion: ServedVersion,
    candidate: Candidate,
    rows: Split,
    data: Dataset,
) -> _Judged:
    task = spec.task
    assert task is not None
    held, output = rows.holdout, answer_tensor(spec)
    graph = OnnxModel(champion.path)
    theirs = outputs_of(graph, held.features)
    classes = classes_of(spec, data)
    judged = with_classes(spec, classes)
    champion_rows = answered_rows(held, theirs)
    candidate_rows = answered_rows(held, candidate.outputs)
    found = measures_of(
        judged, champion_rows, settings.retrain.max_regression, settings.retrain.min_slice_rows
    )
    decisive = found.decisive
    assert decisive is not None
    scale = loss_scale(task, held.labels, theirs[output]) if spec.objective is None else None

    def lost(part: Dataset, outputs: Outputs) -> NDArray[np.float64]:
        if spec.objective is None:
            return losses(task, part.labels, outputs[output], scale)
        return decisive.losses(answered_rows(part, outputs))

    ours, theirs_lost = lost(held, candidate.outputs), lost(held, theirs)
    slack = None if spec.objective is None else decisive.margin
    guards = [m for m in found.others if m.part is None]
    verdict = gate(
        task,
        ours,
        theirs_lost,
        [
            ColumnSlice(m.part.name, m.part.holds(champion_rows))
            for m in found.others
            if m.part and m.rule is decisive.rule  # not again for a further objective
        ],
        settings.retrain,
        [
            Guard(m.name, m.losses(candidate_rows), m.losses(champion_rows), m.margin)
            for m in guards
        ],
        slack,
        in_shares=decisive.rule.facts.get("unit", 1.0) != 1.0,
    )
    constant = constant_outputs(rows.fit.labels, candidate.outputs)
    simplest = lost(held, constant)
    verdict = with_baseline(verdict, ours, simplest)
    verdict = verdict.noting(f"slice {name}: too few rows, {n}" for name, n in found.small)
    probabilities = probabilities_of(theirs)
    comparable = (
        classes is not None
        and probabilities is not None
        and probabilities.shape[1:] == (len(classes),)
    )
    known = classes if comparable else None
    metrics = shown_metrics(task, output, held.labels, theirs, known)
    both = Compared(
        judged,
        held,
        classes,
        candidate.folder,
        candidate.outputs,
        Path(champion.path),
        theirs,
        lost,
    )
    return _Judged(verdict, metrics, both, graph)
