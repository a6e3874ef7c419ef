"""Runs one retrain, from its record to a rollout.

Every step can be repeated, so a killed job resumes when it is run again: the lake versions are
recorded before they are read, networks resume from checkpoints, the finished candidate and the
gate's verdict are in the work folder, and registering and requesting a rollout are idempotent.
"""

import json
import shutil
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import structlog

from driftloop_contracts.clock import Clock
from driftloop_contracts.errors import Conflict, DriftloopError, NotFound, Rejected, RetryLater
from driftloop_contracts.retrain import Retrain, RetrainEvent, RetrainState
from driftloop_contracts.signature import Signature
from driftloop_lake.port import PinnedLake
from driftloop_onnx import signature_of
from driftloop_registry.port import BASE_TAG, Registry, VersionRecord
from driftloop_retrain.job.trainer import (
    VERSION_FOLDER,
    Trained,
    TrainingContext,
    TrainingOrder,
)
from driftloop_retrain.job.trainers import trainer_of
from driftloop_retrain.record.lineage import Data, Lineage, Training
from driftloop_retrain.record.outcome import Outcome
from driftloop_retrain.record.pinning import or_later, pinned
from driftloop_retrain.record.progress import Progress
from driftloop_retrain.record.provenance import params_of, tags_of, this_code, this_environment
from driftloop_retrain.record.workspace import work_folder
from driftloop_settings import Settings
from driftloop_store import Store

log = structlog.get_logger()
Record = dict[str, Any]
OVERRIDE = "an operator requested the canary regardless of the gate"


@dataclass(frozen=True)
class RetrainContext:
    """The resources of a job."""

    settings: Settings
    store: Store
    lake: PinnedLake
    registry: Registry
    clock: Clock


def run_retrain(context: RetrainContext, retrain_id: str) -> RetrainState:
    """Run a requested retrain, or continue a running one, and return its final state: succeeded,
    rejected or failed. Raises RetryLater if the lake or the registry is unavailable; then run it
    again."""
    store = context.store
    retrain = store.retrain(retrain_id)
    if not retrain.active:
        return retrain.state
    if retrain.state is RetrainState.REQUESTED:
        retrain = store.change_retrain(retrain_id, lambda r: r.after(RetrainEvent.START))
    progress = Progress(store, retrain_id)
    try:
        event, fields = _run(context, retrain, progress)
    except RetryLater:
        raise
    except Exception as error:  # recipes may be user code and raise anything
        log.exception("retrain.failed", retrain_id=retrain_id)
        message = str(error) if isinstance(error, DriftloopError) else repr(error)
        message = f"{progress.stage}: {message}"
        event = RetrainEvent.FAIL
        fields = {
            "error": traceback.format_exc(),
            "reasons": (message,),
            "retryable": not isinstance(error, Rejected),
        }
        progress.tell("failed", 1.0, f"the retrain failed: {message}")
    ended_at = context.clock()
    try:
        retrain = store.change_retrain(
            retrain_id, lambda r: replace(r.after(event), ended_at=ended_at, **fields)
        )
    except Conflict:  # it was cancelled meanwhile
        retrain = store.retrain(retrain_id)
    shutil.rmtree(work_folder(context.settings, retrain_id), ignore_errors=True)
    log.info("retrain.ended", retrain_id=retrain_id, state=retrain.state)
    return retrain.state


def _run(
    context: RetrainContext, retrain: Retrain, progress: Progress
) -> tuple[RetrainEvent, Record]:
    store = context.store
    deployment = store.require_deployment(retrain.model)
    model = deployment.model.name
    settings = context.settings.for_model(deployment.model)
    context = replace(context, settings=settings)
    champion = deployment.version(retrain.champion or deployment.split.stable)
    if champion is None:
        raise NotFound(f"version {retrain.champion} of {model!r}, the champion, is gone")
    work = work_folder(settings, retrain.id)
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "outcome.json"
    if kept.is_file():
        outcome = Outcome.from_dict(json.loads(kept.read_text()))
    else:
        pin, as_of = or_later(
            "the lake", lambda: pinned(store, context.lake, context.clock, retrain)
        )
        change_at = retrain.change_at and retrain.change_at.astimezone(UTC)
        trainer = trainer_of(deployment.model)
        with ExitStack() as held:
            sources = TrainingContext(settings, context.lake, context.registry, held)
            order = TrainingOrder(
                deployment,
                sources.at_hand(champion),
                retrain.recipes,
                change_at,
                pin,
                as_of,
                work,
            )
            trained = trainer.train(sources, order, progress.tell)
        _lineage(context, retrain, order, trained).write(work / VERSION_FOLDER)
        outcome = trained.outcome
        _write_whole(kept, outcome.to_dict())
    passed, result = outcome.gate.passed, outcome.to_dict()
    if not passed and not retrain.override_gate:
        reasons = outcome.gate.reasons
        progress.tell("gate", 1.0, f"the gate refused the candidate: {'; '.join(reasons)}")
        return RetrainEvent.REJECT, {"result": result, "reasons": tuple(reasons)}
    if not passed:
        log.warning("retrain.gate_overridden", retrain_id=retrain.id, gate=result["gate"])
        result["gate_override"] = OVERRIDE
    progress.tell("register", 0.96, "registering the candidate")
    tags = tags_of(settings, retrain, outcome.data, champion.version)
    if outcome.base_version is not None:
        tags[BASE_TAG] = str(outcome.base_version)
    if not passed:
        tags["gate_override"] = OVERRIDE
    signature = deployment.model.kind.signature
    version = _register(context, model, signature, work, result, tags)
    result |= {"version": version.version, "rollout": None}
    progress.tell("rollout", 0.99, f"registered as version {version.version}")
    if settings.rollout.auto_start:
        result |= _ask_for_rollout(store, retrain, version, context.clock())
    why = "the candidate passed the gate" if passed else "the gate was overridden"
    progress.tell("done", 1.0, f"{why}; it is version {version.version}")
    return RetrainEvent.SUCCEED, {
        "result": result,
        "metrics": dict(outcome.metrics),
        "version": version.version,
    }


def _lineage(
    context: RetrainContext, retrain: Retrain, order: TrainingOrder, trained: Trained
) -> Lineage:
    """Build the lineage. It is written to the version's folder before registration, so every
    registered version has one."""
    outcome, pin, model = trained.outcome, order.pin, order.spec.name
    offsets = or_later("the lake", lambda: context.lake.offsets(model, pin))
    return Lineage(
        model=model,
        retrain_id=retrain.id,
        trigger=retrain.trigger,
        reason=retrain.reason,
        parent_version=order.champion.version,
        made_at=context.clock(),
        data=Data(
            predictions=pin.predictions,
            labels=pin.labels,
            as_of=order.as_of,
            offsets=offsets,
            change_at=order.change_at,
            rows=outcome.rows,
            trained_rows=outcome.trained_rows,
            holdout_rows=outcome.holdout_rows,
            fresh_rows=outcome.fresh_rows,
        ),
        code=this_code(trained.recipes.values()),
        seed=context.settings.retrain.seed,
        training=Training(
            settings=context.settings.retrain.model_dump(mode="json") | dict(trained.settings),
            spec=order.spec.to_dict(),
            signature=order.champion.signature.to_dict(),
            recipes=tuple(trained.recipes),
            family=outcome.family,
            span=outcome.span,
            rounds=outcome.rounds,
            trials=outcome.details.get("search", {}).get("count", 0),
            trials_of=outcome.details.get("search", {}).get("counts", {}),
        ),
        environment=this_environment(),
        metrics=dict(outcome.metrics),
        graph_sha256=trained.sha256,
        tuning=trained.tuning,
    )


def _register(
    context: RetrainContext,
    model: str,
    signature: Signature | None,
    work: Path,
    outcome: Record,
    tags: Mapping[str, str],
) -> VersionRecord:
    """Register the candidate. signature: that of the model kind; None: read it from the graph."""
    report, folder = work / "report", work / VERSION_FOLDER
    report.mkdir(exist_ok=True)
    (report / "outcome.json").write_text(json.dumps(outcome, indent=2))
    known = signature or signature_of(folder)

    def register() -> VersionRecord:
        version = context.registry.register(
            model,
            folder,
            known,
            metrics=_flat(outcome),
            params=params_of(context.settings, outcome),
            tags=tags,
            artifacts=report,
        )
        context.registry.set_alias(model, "challenger", version.version)
        return version

    return or_later("the registry", register)


def _flat(outcome: Mapping[str, Any]) -> dict[str, float]:
    sides = (("", "metrics"), ("champion_", "champion_metrics"))
    return {prefix + name: v for prefix, key in sides for name, v in outcome[key].items()}


def _ask_for_rollout(
    store: Store, retrain: Retrain, version: VersionRecord, now: datetime
) -> Record:
    rollout_id = str(uuid5(UUID(retrain.id), "rollout"))
    try:  # idempotent, in case it was requested before this process was killed
        store.request_rollout(rollout_id, version.served, retrain.model, now, retrain.reason)
    except Conflict as error:
        return {"rollout": None, "no_rollout": str(error)}
    return {"rollout": rollout_id}


def _write_whole(path: Path, document: Record) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document))
    part.replace(path)
