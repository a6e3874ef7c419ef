"""One retrain from its record to a rollout.

Each step can be repeated, so that a job killed at any moment goes on when it is run again: the lake
versions are in the record before they are read, networks go on from their checkpoints, the finished
candidate and the gate's verdict lie in the work folder, registering and asking for a rollout give
the same answer twice.
"""

import json
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import structlog

from driftloop_contracts.clock import Clock
from driftloop_contracts.errors import Conflict, DriftloopError, NotFound, Rejected, RetryLater
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_contracts.retrain import Retrain, RetrainEvent, RetrainState
from driftloop_lake.port import Pin, PinnedLake
from driftloop_onnx import OnnxModel
from driftloop_registry.port import BASE_TAG, Registry, VersionRecord
from driftloop_retrain.record.graph_identity import graph_hash
from driftloop_retrain.record.lineage import Data, Lineage, Training, Tuning
from driftloop_retrain.record.pinning import or_later, pinned
from driftloop_retrain.record.progress import Progress
from driftloop_retrain.record.provenance import params_of, tags_of, this_code, this_environment
from driftloop_retrain.record.workspace import work_folder
from driftloop_retrain.tabular.candidate import Candidate, classes_of, make_candidate
from driftloop_retrain.tabular.dataset import Dataset, Split, from_lake, split
from driftloop_retrain.tabular.evaluate import loss_scale, losses, metrics, slices
from driftloop_retrain.tabular.gate import GateResult, gate
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.recipes import Recipe, find_recipe, recipe_names
from driftloop_retrain.tabular.search import answer_tensor
from driftloop_settings import Settings
from driftloop_store import Store

if TYPE_CHECKING:
    from driftloop_retrain.language.port import LanguageRecipe

log = structlog.get_logger()
Record = dict[str, Any]


@dataclass(frozen=True)
class RetrainContext:
    """What a job works with."""

    settings: Settings
    store: Store
    lake: PinnedLake
    registry: Registry
    clock: Clock


def run_retrain(parts: RetrainContext, retrain_id: str) -> RetrainState:
    """Run a requested retrain, or go on with a running one, and return the state it ended in:
    succeeded, rejected or failed. Raises RetryLater where the lake or the registry cannot be
    reached; then it is to be run again."""
    store = parts.store
    retrain = store.retrain(retrain_id)
    if not retrain.active:
        return retrain.state
    if retrain.state is RetrainState.REQUESTED:
        retrain = store.change_retrain(retrain_id, lambda r: r.after(RetrainEvent.START))
    progress = Progress(store, retrain_id)
    try:
        event, fields = _run(parts, retrain, progress)
    except RetryLater:
        raise
    except Exception as error:  # a recipe is other people's code: it may raise anything
        log.exception("retrain.failed", retrain_id=retrain_id)
        message = str(error) if isinstance(error, DriftloopError) else repr(error)
        event = RetrainEvent.FAIL
        fields = {"error": traceback.format_exc(), "reasons": (message,)}
        progress.tell("failed", 1.0, f"the retrain failed: {message}")
    ended_at = parts.clock()
    try:
        retrain = store.change_retrain(
            retrain_id, lambda r: replace(r.after(event), ended_at=ended_at, **fields)
        )
    except Conflict:  # it was cancelled meanwhile
        retrain = store.retrain(retrain_id)
    shutil.rmtree(work_folder(parts.settings, retrain_id), ignore_errors=True)
    log.info("retrain.ended", retrain_id=retrain_id, state=retrain.state)
    return retrain.state


def _run(
    parts: RetrainContext, retrain: Retrain, progress: Progress
) -> tuple[RetrainEvent, Record]:
    store = parts.store
    deployment = store.require_deployment(retrain.model)
    spec = deployment.model
    settings = parts.settings.for_model(spec)
    parts = replace(parts, settings=settings)
    champion = deployment.version(retrain.champion or deployment.split.stable)
    if champion is None:
        raise NotFound(f"version {retrain.champion} of {spec.name!r}, the champion, is gone")
    work = work_folder(settings, retrain.id)
    work.mkdir(parents=True, exist_ok=True)
    outcome_file = work / "outcome.json"
    if outcome_file.is_file():
        outcome: Record = json.loads(outcome_file.read_text())
    else:
        if spec.runtime == "vllm":
            from driftloop_retrain.language.job import tune

            outcome = tune(parts, retrain, spec, champion, work, progress)
        else:
            outcome = _train(parts, retrain, spec, champion, work, progress)
        _write_whole(outcome_file, outcome)
    verdict, overridden = outcome["gate"]["verdict"], retrain.override_gate
    if verdict != "passed" and not overridden:
        reasons = outcome["gate"]["reasons"]
        progress.tell("gate", 1.0, f"the gate says no: {'; '.join(reasons)}")
        return RetrainEvent.REJECT, {"result": outcome, "reasons": tuple(reasons)}
    if verdict != "passed":
        log.warning("retrain.gate_overridden", retrain_id=retrain.id, gate=outcome["gate"])
        outcome["gate_override"] = "an operator asked for the canary whatever the gate says"
    progress.tell("register", 0.96, "registering the candidate")
    version = _register(parts, retrain, spec, champion, work, outcome)
    outcome |= {"version": version.version, "rollout": None}
    progress.tell("rollout", 0.99, f"registered as version {version.version}")
    if settings.rollout.auto_start:
        outcome |= _ask_for_rollout(store, retrain, version, parts.clock())
    passed = "the gate was overridden" if verdict != "passed" else "the candidate passed the gate"
    progress.tell("done", 1.0, f"{passed}; it is version {version.version}")
    return RetrainEvent.SUCCEED, {
        "result": outcome,
        "metrics": outcome["metrics"],
        "version": version.version,
    }


def _train(
    parts: RetrainContext,
    retrain: Retrain,
    spec: ModelSpec,
    champion: ServedVersion,
    work: Path,
    progress: Progress,
) -> Record:
    settings = parts.settings
    names = recipe_names(spec.recipe, retrain.recipes, settings.retrain.families)
    recipes = {name: find_recipe(name) for name in names}
    progress.tell("data", 0.0, "reading the labelled rows from the lake")
    data = _read(parts, retrain, spec, champion)
    change_at = retrain.change_at and retrain.change_at.astimezone(UTC)
    rows = split(data, settings.retrain, change_at)
    fresh = 0 if rows.fresh_from is None else data.rows - rows.fresh_from
    since = f", {fresh:,} of them since the change" if fresh else ""
    progress.tell("data", 0.02, f"{data.rows:,} labelled rows{since}")
    candidate = make_candidate(
        settings,
        spec,
        champion.signature.inputs,
        rows,
        list(recipes.values()),
        classes_of(spec, data),
        work,
        lambda done, words: progress.tell("train", 0.02 + 0.9 * done, words),
    )
    _check_signature(candidate, champion)
    progress.tell("gate", 0.94, "comparing it with the champion on the newest rows")
    verdict, champion_metrics = _judge(settings, spec, champion, candidate, rows, data)
    best = candidate.found.best
    outcome: Record = {
        "family": best.family,
        "span": best.span.name,
        "rounds": best.rounds,
        "rows": data.rows,
        "fresh_rows": fresh,
        "data": data.source,
        "trained_rows": rows.fit.rows,
        "holdout_rows": rows.holdout.rows,
        "trials": [trial.to_dict() for trial in candidate.found.trials],
        "metrics": candidate.metrics,
        "champion_metrics": champion_metrics,
        "parity": {
            "rows": candidate.parity.rows,
            "largest_difference": candidate.parity.largest_difference,
        },
        "gate": verdict.to_dict(),
    }
    lineage_of(
        parts,
        retrain,
        spec,
        champion,
        outcome,
        recipes,
        candidate.metrics,
        graph_hash(candidate.folder),
    ).write(candidate.folder)
    return outcome


def lineage_of(
    parts: RetrainContext,
    retrain: Retrain,
    spec: ModelSpec,
    champion: ServedVersion,
    outcome: Record,
    recipes: "Mapping[str, Recipe] | Mapping[str, LanguageRecipe]",
    metrics: dict[str, float],
    sha256: str,
    tuning: Tuning | None = None,
) -> Lineage:
    """Of a finished training. `sha256`: of what was made. It is written beside that, so that
    whoever has one has the other."""
    read = parts.store.retrain(retrain.id).data
    assert read is not None
    pin = Pin(read.predictions, read.labels)
    offsets = or_later("the lake", lambda: parts.lake.offsets(spec.name, pin))
    counts = ("rows", "trained_rows", "holdout_rows", "fresh_rows")
    return Lineage(
        model=spec.name,
        retrain_id=retrain.id,
        trigger=retrain.trigger,
        reason=retrain.reason,
        parent_version=champion.version,
        made_at=parts.clock(),
        data=Data(
            **pin.to_dict(),
            as_of=read.as_of.isoformat(),
            offsets=offsets,
            change_at=retrain.change_at.isoformat() if retrain.change_at else None,
            **{name: outcome[name] for name in counts},
        ),
        code=this_code(recipes.values()),
        seed=parts.settings.retrain.seed,
        training=Training(
            settings=parts.settings.retrain.model_dump(mode="json"),
            spec=spec.to_dict(),
            signature=champion.signature.to_dict(),
            recipes=tuple(recipes),
            family=outcome["family"],
            span=outcome["span"],
            rounds=outcome["rounds"],
        ),
        environment=this_environment(),
        metrics=metrics,
        graph_sha256=sha256,
        tuning=tuning,
    )


def _read(
    parts: RetrainContext, retrain: Retrain, spec: ModelSpec, champion: ServedVersion
) -> Dataset:
    def read() -> Dataset:
        pin, as_of = pinned(parts.store, parts.lake, parts.clock, retrain)
        return from_lake(
            parts.lake, spec, champion.signature, pin, as_of, parts.settings.retrain.max_rows
        )

    return or_later("the lake", read)


def _check_signature(candidate: Candidate, champion: ServedVersion) -> None:
    """Both answer the same requests, so both must have the same inputs and outputs."""
    for side in ("inputs", "outputs"):
        ours = {(t.name, t.datatype, t.shape[1:]) for t in getattr(candidate.signature, side)}
        theirs = {(t.name, t.datatype, t.shape[1:]) for t in getattr(champion.signature, side)}
        if ours != theirs:
            names = sorted({name for name, *_ in ours ^ theirs})
            raise Rejected(f"the candidate's {side} differ from the champion's: {', '.join(names)}")


def _judge(
    settings: Settings,
    spec: ModelSpec,
    champion: ServedVersion,
    candidate: Candidate,
    rows: Split,
    data: Dataset,
) -> tuple[GateResult, dict[str, float]]:
    assert spec.task is not None
    held, output = rows.holdout, answer_tensor(spec)
    theirs = outputs_of(OnnxModel(champion.path), held.features)
    scale = loss_scale(spec.task, held.labels, theirs[output])
    verdict = gate(
        spec.task,
        losses(spec.task, held.labels, candidate.outputs[output], scale),
        losses(spec.task, held.labels, theirs[output], scale),
        slices(held.features, spec.slices, settings.retrain.min_slice_rows),
        settings.retrain,
    )
    classes = classes_of(spec, data)
    probabilities = theirs.get("probabilities")
    comparable = (
        classes is not None
        and probabilities is not None
        and probabilities.shape[1:] == (len(classes),)
    )
    known = classes if comparable else None
    return verdict, metrics(spec.task, output, held.labels, theirs, known)


def _register(
    parts: RetrainContext,
    retrain: Retrain,
    spec: ModelSpec,
    champion: ServedVersion,
    work: Path,
    outcome: Record,
) -> VersionRecord:
    tags = tags_of(parts.settings, retrain, outcome["data"], champion.version)
    if "base_version" in outcome:
        tags[BASE_TAG] = str(outcome["base_version"])
    if "gate_override" in outcome:
        tags["gate_override"] = outcome["gate_override"]
    report = work / "report"
    report.mkdir(exist_ok=True)
    (report / "outcome.json").write_text(json.dumps(outcome, indent=2))
    folder = work / "version"
    signature = SIGNATURE if spec.runtime == "vllm" else OnnxModel(folder).signature

    def register() -> VersionRecord:
        version = parts.registry.register(
            spec.name,
            folder,
            signature,
            metrics=_flat(outcome),
            params=params_of(parts.settings, outcome),
            tags=tags,
            artifacts=report,
        )
        parts.registry.set_alias(spec.name, "challenger", version.version)
        return version

    return or_later("the registry", register)


def _flat(outcome: Mapping[str, Any]) -> dict[str, float]:
    sides = (("", "metrics"), ("champion_", "champion_metrics"))
    return {prefix + name: v for prefix, key in sides for name, v in outcome[key].items()}


def _ask_for_rollout(
    store: Store, retrain: Retrain, version: VersionRecord, now: datetime
) -> Record:
    rollout_id = str(uuid5(UUID(retrain.id), "rollout"))
    try:  # the same answer if it was asked for before this process was killed
        store.request_rollout(rollout_id, version.served, retrain.model, now, retrain.reason)
    except Conflict as error:
        return {"rollout": None, "no_rollout": str(error)}
    return {"rollout": rollout_id}


def _write_whole(path: Path, document: Record) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document))
    part.replace(path)
