"""What operators do on a page: through the commands that the control API uses, as JSON.

A button says which state its page showed. If another operator or the controller was faster, nothing
is done, and the answer says what happened.
"""

from collections.abc import Callable
from typing import Literal

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from markupsafe import escape
from pydantic import BaseModel, Field

from driftloop_alerts import commands as incidents
from driftloop_console import words
from driftloop_console.context import ConsoleContext
from driftloop_console.views import rollout_page
from driftloop_contracts.errors import Conflict, DriftloopError
from driftloop_contracts.incident import Incident
from driftloop_contracts.retrain import RetrainEvent
from driftloop_http.http_errors import headers_of, status_of
from driftloop_rollout import commands
from driftloop_rollout.machine import Event, Rollout

ACTOR = "an operator (console)"


class Pressed(BaseModel):
    """seen: the state that the page showed."""

    seen: str = Field(max_length=64)
    reason: str = Field("", max_length=2_000)


def add_actions(app: FastAPI, context: ConsoleContext) -> None:
    store = context.store

    @app.post("/rollouts/{rollout_id}/{event}", include_in_schema=False)
    def steer(
        rollout_id: str,
        event: Literal["approve", "pause", "resume", "promote", "abort"],
        pressed: Pressed,
    ) -> Response:
        def act() -> str:
            rollout = Rollout.from_record(store.rollout(rollout_id))
            if rollout.state != pressed.seen:
                raise Conflict(rollout_page.told(rollout, Event(event)))
            try:
                commands.command(store, rollout_id, event, ACTOR, pressed.reason, context.clock())
            except Conflict:
                after = Rollout.from_record(store.rollout(rollout_id))
                raise Conflict(rollout_page.told(after, Event(event))) from None
            store.audit(ACTOR, event, {"rollout": rollout_id, "reason": pressed.reason})
            return f"Done: {ACTOR} {rollout_page.DONE[Event(event)]}."

        return _answer(act)

    @app.post("/incidents/{incident_id}/ack", include_in_schema=False)
    def acknowledge(incident_id: str, pressed: Pressed) -> Response:
        def check(incident: Incident) -> None:
            if incident.state != pressed.seen:
                by = f" by {incident.by}" if incident.by else ""
                at = words.time(incident.updated_at)
                now = f"the incident is {incident.state}{by} since {at}"
                raise Conflict(f"Nothing was done: {now}.")

        def act() -> str:
            now = context.clock()
            incidents.acknowledge(store, incident_id, ACTOR, pressed.reason, now, check)
            return "Done: it is acknowledged, and not repeated."

        return _answer(act)

    @app.post("/retrains/{retrain_id}/cancel", include_in_schema=False)
    def cancel(retrain_id: str, pressed: Pressed) -> Response:
        def act() -> str:
            store.change_retrain(retrain_id, lambda r: r.after(RetrainEvent.CANCEL))
            store.audit(ACTOR, "cancel-retrain", {"retrain": retrain_id, "reason": pressed.reason})
            return "Done: the retrain is cancelled."

        return _answer(act)


def _answer(act: Callable[[], str]) -> Response:
    """The sentence that the page shows beside its buttons."""
    try:
        return HTMLResponse(escape(act()))
    except DriftloopError as error:
        return HTMLResponse(escape(str(error)), status_of(error), headers_of(error))
