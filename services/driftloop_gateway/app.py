"""The control API's routes (OpenAPI at `/api/openapi.json`). Errors are `{"error": sentence}`."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from driftloop_artifacts import open_artifacts
from driftloop_console.app import add_console
from driftloop_console.changes_feed import ChangesFeed, Tokens, tokens
from driftloop_console.context import ConsoleContext
from driftloop_contracts import errors
from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.clock import Clock
from driftloop_contracts.judgement import Decision
from driftloop_contracts.retrain import Retrain, RetrainEvent
from driftloop_gateway.event_api import event_api
from driftloop_gateway.incident_api import incident_api
from driftloop_gateway.intake import take_in
from driftloop_gateway.label_api import label_api
from driftloop_gateway.lake_counter import LakeCounter
from driftloop_gateway.limits import Limit
from driftloop_gateway.metrics_reader import MetricsReader
from driftloop_gateway.overview import newest_metrics, overview
from driftloop_gateway.removal import UNLOAD_S, await_unloaded, remove
from driftloop_http.callers import Callers
from driftloop_http.http_errors import install_error_handlers
from driftloop_http.openapi import without_422
from driftloop_http.request_body import write_body
from driftloop_http.request_guard import RequestGuard
from driftloop_http.spoken import speak_http
from driftloop_lake.port import LakeReader
from driftloop_registry.port import Registry
from driftloop_rollout import commands
from driftloop_serving.label_intake import LabelIntake
from driftloop_settings import Settings
from driftloop_settings.run_state import RunState
from driftloop_store import Store
from driftloop_store.cycle_health import CycleHealth

REPORT_HEADERS = {
    # Scripts draw it; they run in an origin of their own, and can neither ask nor send anything.
    "content-security-policy": "sandbox allow-scripts; default-src 'none'; "
    "script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
OPENAPI = "/api/openapi.json"
ARCHIVE_LIMIT_BYTES = 512 << 30


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """What the routes work with. `registry` opens the registry on first use, since it is heavy."""

    settings: Settings
    store: Store
    lake: LakeReader
    registry: Callable[[], Registry]
    labels: LabelIntake
    run_state: Callable[[], RunState | None]
    clock: Clock
    erase: Callable[[str], None]
    """Deletes a model's rows from the lake."""
    archiver_lag: Callable[[], Mapping[str, int]] = dict
    """The records in Kafka that are not in the lake, by topic; empty if that is not known."""
    stopping: Callable[[], bool] = lambda: False
    """Whether the role is asked to stop: pages that are open do not hold it up."""
    unload_s: float = UNLOAD_S
    """How long the removal of a model waits for the replicas."""


class RetrainRequest(BaseModel):
    """`recipes` and `override_gate` are for experiments; they are recorded."""

    model: str
    reason: str = "requested by an operator"
    recipes: list[str] = Field(default_factory=list)
    override_gate: bool = False


class RolloutRequest(BaseModel):
    model: str
    version: int
    reason: str = "requested by an operator"


class CommandRequest(BaseModel):
    reason: str = ""
    actor: str = "operator"


def make_app(context: GatewayContext) -> FastAPI:
    app = FastAPI(
        title="driftloop control API",
        openapi_url=OPENAPI,
        # FastAPI's pages load their scripts from other hosts.
        docs_url=None,
        redoc_url=None,
    )
    install_error_handlers(app)
    speak_http(
        app,
        body_limit_bytes=context.settings.serving.body_limit_bytes,
        streamed=frozenset({"/feedback", "/api/models"}),
        origins=context.settings.control.cors_origins,
    )
    # The last one is asked first: OPTIONS and preflights have no exception.
    app.add_middleware(
        RequestGuard,
        callers=Callers.of(context.settings),
        typed=True,
        read_only=context.settings.control.read_only,
        open_to_all={"/feedback"},
    )
    _inspection(app, context)
    _actions(app, context)
    app.include_router(incident_api(context.settings, context.store, context.clock))
    app.include_router(label_api(context.settings, context.store, context.clock))
    console = ConsoleContext(
        context.settings, context.store, context.run_state, context.clock, context.stopping
    )
    health = CycleHealth(context.store, "gateway/console")

    def changes(before: Tokens) -> Tokens:
        with health.cycle():
            return tokens(console, before)
        return before

    feed = ChangesFeed(changes, context.stopping)
    app.include_router(event_api(context.store, feed))
    add_console(app, console, feed)
    written = app.openapi
    app.openapi = lambda: without_422(written())  # type: ignore[method-assign]  # FastAPI's own way
    return app


def _inspection(app: FastAPI, context: GatewayContext) -> None:
    store = context.store

    @app.get("/api/health")
    def health() -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    lake_counts = LakeCounter(context.lake)
    metrics = MetricsReader(context.settings, store, context.archiver_lag, context.clock)

    @app.get("/metrics")
    def prometheus(request: Request) -> Response:
        """The metrics of the loop in Prometheus' text format; at most some seconds old."""
        text, content_type = metrics.render(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    @app.get("/api/status")
    def status() -> dict[str, Any]:
        """Roles, models, traffic, alerts, retrains and rollouts in one document."""
        return overview(store, lake_counts, context.run_state())

    @app.get("/api/models")
    def models() -> list[dict[str, Any]]:
        """The deployed models: spec, versions and traffic split."""
        return [d.to_dict() for d in store.deployments()]

    @app.get("/api/models/{model}/versions")
    def versions(model: str) -> list[dict[str, Any]]:
        """The registered versions of a model, with aliases, metrics and tags."""
        store.require_deployment(model)
        registry = context.registry()
        aliases = registry.aliases(model)
        return [
            {
                "version": v.version,
                "aliases": [name for name, number in aliases.items() if number == v.version],
                "metrics": dict(v.metrics),
                "tags": dict(v.tags),
                "path": v.path,
            }
            for v in registry.versions(model)
        ]

    @app.get("/api/models/{model}/windows")
    def windows(model: str, limit: Limit = 100) -> list[dict[str, Any]]:
        """The judged windows of a model, newest first."""
        store.require_deployment(model)
        return store.windows(model, limit)

    @app.get("/api/models/{model}/metrics")
    def model_metrics(model: str) -> dict[str, Any]:
        """What a model is judged by, and the metrics of the champion's newest labelled rows, with
        95 % intervals: for each output
        `metrics` by name as [value, low, high], and the `confusion` of `classes` by label (rows)
        and answer (columns). `outputs` is empty until enough labels have come."""
        return newest_metrics(store, model)

    @app.get("/api/findings")
    def findings(model: str | None = None, limit: Limit = 100) -> list[dict[str, Any]]:
        """Findings, newest first."""
        return store.findings(model, limit)

    @app.get("/api/alerts")
    def alerts(model: str | None = None, limit: Limit = 100) -> list[dict[str, Any]]:
        """Alerts, newest first."""
        return [alert.to_dict() for alert in store.alerts(model, limit)]

    @app.get("/api/decisions")
    def decisions(model: str | None = None, limit: Limit = 100) -> list[dict[str, Any]]:
        """Decisions to retrain or to wait, newest first, with evidence and reason."""
        return store.decisions(model, limit)

    @app.get("/api/retrains")
    def retrains(model: str | None = None, limit: Limit = 100) -> list[dict[str, Any]]:
        """Retrains, newest first."""
        return [retrain.to_dict() for retrain in store.retrains(model, limit)]

    @app.get("/api/rollouts")
    def rollouts(model: str | None = None, limit: Limit = 100) -> list[dict[str, Any]]:
        """Rollouts, newest first."""
        return store.rollouts(model, limit)

    @app.get("/api/rollouts/{rollout_id}/events")
    def rollout_events(rollout_id: str) -> list[dict[str, Any]]:
        """The events of a rollout, oldest first."""
        store.rollout(rollout_id)
        return store.rollout_events(rollout_id)

    @app.get("/api/labels")
    def labels() -> dict[str, int]:
        """How many labels wait for a prediction that no table holds."""
        return {"unmatched": context.lake.unmatched_labels()}

    @app.get("/api/audit")
    def audit(limit: Limit = 100) -> list[dict[str, Any]]:
        """Who did what, newest first."""
        return store.audits(limit)

    @app.get("/api/reports/{name}")
    def report(name: str) -> FileResponse:
        """An HTML report of an alert or of a fine-tune."""
        path = context.settings.reports_dir / Path(name).name
        if not open_artifacts(context.settings).bring(f"reports/{path.name}", path):
            raise errors.NotFound(f"there is no report {name!r}")
        return FileResponse(path, headers=REPORT_HEADERS)


def _actions(app: FastAPI, context: GatewayContext) -> None:
    store = context.store

    @app.post("/api/models")
    async def deploy(request: Request, at_once: bool = False) -> dict[str, Any]:
        """Deploy the archive of a model. `at_once`: without a rollout."""
        from starlette.concurrency import run_in_threadpool

        scratch = context.settings.state_dir / "uploads"
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(
            dir=scratch
        ) as archive:  # weights are larger than memory may be
            await write_body(request.receive, archive, ARCHIVE_LIMIT_BYTES)
            archive.seek(0)
            answer = await run_in_threadpool(
                take_in,
                archive,
                store,
                context.registry(),
                context.clock(),
                at_once=at_once,
                settings=context.settings,
                scratch_dir=scratch,
            )
        store.audit("operator", "deploy", answer)
        return answer

    @app.delete("/api/models/{model}")
    def remove_model(model: str, delete_data: bool = False) -> dict[str, Any]:
        """Remove a model: its replicas, retrain, rollout and alerts end. Its versions stay in the
        registry, its rows in the lake unless `delete_data`. Waits some seconds until no replica
        answers for it; `unloaded` says whether that is so."""
        erase = context.erase if delete_data else None
        answer = remove(store, model, context.clock(), erase)
        store.audit("operator", "remove", answer)
        unloaded = await_unloaded(store, model, context.unload_s)
        return {**answer, "unloaded": unloaded}

    @app.post("/api/retrains")
    def retrain(wanted: RetrainRequest) -> dict[str, Any]:
        """Request a retrain."""
        deployment = store.require_deployment(wanted.model)
        if deployment.model.recipe is None and not wanted.recipes:
            raise errors.Rejected(f"model {wanted.model!r} names no recipe to retrain it with")
        now, retrain_id, decision_id = context.clock(), str(uuid4()), str(uuid4())
        asked = Retrain(
            id=retrain_id,
            model=wanted.model,
            at=now,
            trigger="operator",
            reason=wanted.reason,
            decision_id=decision_id,
            champion=deployment.split.stable,
            recipes=tuple(wanted.recipes),
            override_gate=wanted.override_gate,
        )
        record = store.request_retrain(asked)
        if record.id != retrain_id:
            raise errors.Conflict(f"the retrain {record.id} of {wanted.model!r} is in progress")
        decision = Decision(
            decision_id=decision_id,
            model=wanted.model,
            at=now,
            trigger="operator",
            verdict="retrain",
            reason=wanted.reason,
            evidence={},
            policy={},
        )
        store.add_decision(decision)
        store.audit("operator", "retrain", {"retrain": retrain_id, **wanted.model_dump()})
        return record.to_dict()

    @app.post("/api/retrains/{retrain_id}/cancel")
    def cancel(retrain_id: str) -> dict[str, Any]:
        """Cancel a retrain that has not ended."""
        cancelled = store.change_retrain(retrain_id, lambda r: r.after(RetrainEvent.CANCEL))
        store.audit("operator", "cancel-retrain", {"retrain": retrain_id})
        return cancelled.to_dict()

    @app.post("/api/rollouts")
    def start_rollout(wanted: RolloutRequest) -> dict[str, Any]:
        """Request a rollout of a registered version."""
        rollout = commands.request(
            store, context.registry, wanted.model, wanted.version, wanted.reason, context.clock()
        )
        store.audit("operator", "rollout", {"rollout": rollout["id"], **wanted.model_dump()})
        return rollout

    @app.post("/api/rollouts/{rollout_id}/retry")
    def retry_rollout(rollout_id: str, by: CommandRequest) -> dict[str, Any]:
        """Request the rollout of the same candidate again, after one that did not promote it."""
        again = commands.retry(store, rollout_id, by.actor, by.reason, context.clock())
        detail = {"rollout": rollout_id, "again": again["id"], "reason": by.reason}
        store.audit(by.actor, "retry", detail)
        return again

    @app.post("/api/rollouts/{rollout_id}/{event}")
    def steer(
        rollout_id: str,
        event: Literal["approve", "pause", "resume", "promote", "abort"],
        by: CommandRequest,
    ) -> dict[str, Any]:
        """Approve, pause, resume, promote or abort a rollout."""
        commands.command(store, rollout_id, event, by.actor, by.reason, context.clock())
        store.audit(by.actor, event, {"rollout": rollout_id, "reason": by.reason})
        return store.rollout(rollout_id)

    @app.post("/api/alerts/{alert_id}/ack")
    def acknowledge(alert_id: str) -> dict[str, str]:
        """Acknowledge an alert."""
        store.change_alert(alert_id, lambda alert: alert.after(AlertEvent.ACKNOWLEDGE))
        store.audit("operator", "acknowledge", {"alert": alert_id})
        return {"id": alert_id, "state": "acknowledged"}

    @app.post("/feedback")
    async def feedback(request: Request) -> dict[str, Any]:
        """Labels, ratings and corrections; as on the serving port."""
        return await context.labels.accept(request)
