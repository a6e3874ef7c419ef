"""Incidents in the control API: read, acknowledge, silence, test a route, explain."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from driftloop_alerts import commands, operator_actions
from driftloop_alerts.routing import routes_of
from driftloop_contracts.clock import Clock
from driftloop_contracts.errors import Conflict
from driftloop_contracts.incident import Cause, Incident, IncidentChange
from driftloop_gateway.limits import Limit
from driftloop_settings import Settings
from driftloop_store import Store

LONGEST_SILENCE_S = 30 * 86_400


class AcknowledgeRequest(BaseModel):
    actor: str = Field("operator", max_length=128)
    reason: str = Field("", max_length=1_000)


class SilenceRequest(AcknowledgeRequest):
    """for_s: seconds from now."""

    for_s: float = Field(gt=0, le=LONGEST_SILENCE_S)


class TrialRequest(BaseModel):
    route: str
    actor: str = Field("operator", max_length=128)


def incident_api(settings: Settings, store: Store, clock: Clock) -> APIRouter:
    api = APIRouter()
    routes = routes_of(settings.alerts)

    @api.get("/api/incidents")
    def incidents(
        model: str | None = None, unresolved: bool = False, limit: Limit = 100
    ) -> list[dict[str, Any]]:
        """Incidents, newest first."""
        if unresolved:
            every = reversed(store.unresolved_incidents())
            found = [i for i in every if model in (None, i.model)][:limit]
        else:
            found = store.incidents(model, limit)
        return [incident.to_dict() for incident in found]

    @api.get("/api/incidents/{incident_id}")
    def incident(incident_id: str) -> dict[str, Any]:
        """An incident with its history and the notices to routes."""
        return {
            **store.incident(incident_id).to_dict(),
            "history": store.incident_events(incident_id),
            "notices": store.notices_of(incident_id),
        }

    @api.get("/api/routes")
    def shown_routes() -> list[dict[str, Any]]:
        """The routes of the settings, with the state of their newest message; receivers are
        secret."""
        return [
            {
                **route.model_dump(mode="json", exclude={"to", "secret"}),
                "last": next((_shown(d.to_dict()) for d in store.deliveries(route.name, 1)), None),
            }
            for route in settings.alerts.routes
        ]

    @api.get("/api/routes/explain")
    def explain(model: str, cause: Cause = Cause.PERFORMANCE) -> list[dict[str, Any]]:
        """Which routes would take an incident of this model and cause now, and why others not."""
        now = clock()
        asked = operator_actions.hypothetical(model, cause, now)
        found = operator_actions.explain(routes, asked, now)
        return [{"route": e.route, "takes": e.takes, "why": e.why} for e in found]

    @api.post("/api/incidents/{incident_id}/ack")
    def acknowledge(incident_id: str, by: AcknowledgeRequest) -> dict[str, Any]:
        """Acknowledge an incident, and the alert behind it: it is not repeated."""
        changed = commands.acknowledge(store, incident_id, by.actor, by.reason, clock())
        return changed.to_dict()

    @api.post("/api/incidents/{incident_id}/silence")
    def silence(incident_id: str, by: SilenceRequest) -> dict[str, Any]:
        """Send nothing about an incident for some time."""

        def silenced(found: Incident) -> IncidentChange:
            return operator_actions.silence(found, by.for_s, by.actor, by.reason, clock())

        changed = store.change_incident(incident_id, silenced)
        detail = {"incident": incident_id, "for_s": by.for_s, "reason": by.reason}
        store.audit(by.actor, "silence", detail)
        return changed.to_dict()

    @api.post("/api/routes/test")
    def trial(wanted: TrialRequest) -> dict[str, Any]:
        """Send a test on one route, at once."""
        change = operator_actions.trial(wanted.route, routes, wanted.actor, clock())
        written = store.write_incidents([change])
        if not written:
            raise Conflict(f"a test of the route {wanted.route!r} is in progress; try in a minute")
        store.audit(wanted.actor, "test-route", {"route": wanted.route})
        return written[0].to_dict()

    return api


def _shown(delivery: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in delivery.items() if name != "message"}
