"""Which routes take an incident, and when they may be used. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from driftloop_contracts.incident import Cause, Incident, Urgency
from driftloop_settings.alert_sections import AlertsSettings, RouteSettings

COLLECT = timedelta(seconds=3)
"""How long the first notice of a message waits for others that have the same origin."""


@dataclass(frozen=True, slots=True)
class Route:
    """hours: from and to, at the wall in `zone`; None: always. digest_at: when digests are
    sent. repeat: None: never."""

    name: str
    models: tuple[str, ...]
    urgency: Urgency
    hours: tuple[time, time] | None
    zone: ZoneInfo
    digest_at: time
    repeat: timedelta | None
    group: timedelta
    resolved: bool
    collect: timedelta = COLLECT

    @classmethod
    def of(cls, route: RouteSettings, alerts: AlertsSettings) -> "Route":
        hours = None
        if route.hours is not None:
            start, _, end = route.hours.partition("-")
            hours = time.fromisoformat(start), time.fromisoformat(end)
        return cls(
            route.name,
            route.models,
            Urgency(route.severity),
            hours,
            ZoneInfo(alerts.timezone),
            time.fromisoformat(alerts.digest_at),
            timedelta(seconds=route.repeat_s) if route.repeat_s else None,
            timedelta(seconds=route.group_s),
            route.resolved,
        )

    def refusal(self, incident: Incident) -> str:
        """Why this route does not take an incident, in words; "" if it does."""
        if incident.cause is Cause.ROUTE and incident.subject == self.name:
            return "it is the route that fails"
        if incident.cause is Cause.TEST and incident.subject:
            return "" if incident.subject == self.name else "the test is of another route"
        if not incident.urgency.at_least(self.urgency):
            return f"it takes {self.urgency} and above, this is {incident.urgency}"
        if incident.model and not any(fnmatchcase(incident.model, p) for p in self.models):
            return f"it is for the models {', '.join(self.models)}"
        return ""

    def opens_at(self, now: datetime) -> datetime:
        """When it may be used next: now, or the start of its hours (in UTC as `now` is)."""
        if self.hours is None:
            return now
        start, end = self.hours
        local = now.astimezone(self.zone)
        at = local.time().replace(tzinfo=None)
        within = start <= at < end if start < end else at >= start or at < end
        return now if within else _next(start, now, self.zone)

    def digest_after(self, at: datetime) -> datetime:
        """The first time of the digest at or after."""
        local = at.astimezone(self.zone)
        if local.time().replace(tzinfo=None) == self.digest_at:
            return at
        return _next(self.digest_at, at, self.zone)


def routes_of(alerts: AlertsSettings) -> tuple[Route, ...]:
    return tuple(Route.of(route, alerts) for route in alerts.routes)


def taken_by(routes: Iterable[Route], incident: Incident) -> list[Route]:
    return [route for route in routes if not route.refusal(incident)]


def _next(wall: time, after: datetime, zone: ZoneInfo) -> datetime:
    """The next time that a clock in the zone shows `wall`. A time that is skipped when clocks go
    forward comes as the zone's rules have it (PEP 495)."""
    local = after.astimezone(zone)
    today = local.replace(
        hour=wall.hour, minute=wall.minute, second=0, microsecond=0, fold=0
    ).replace(tzinfo=zone)
    found = today.astimezone(after.tzinfo)
    if found <= after:
        tomorrow = (today.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
        found = tomorrow.astimezone(after.tzinfo)
    return found
