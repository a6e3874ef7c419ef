"""Reads from the store what incidents follow from."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from driftloop_alerts.night import Night, night_of, period
from driftloop_alerts.retry import FAILS
from driftloop_alerts.snapshot import FailingRoute, ModelSeen, RolloutSeen, Snapshot
from driftloop_contracts.errors import Rejected
from driftloop_contracts.incident import Delivery
from driftloop_contracts.judgement import CheckKind, Decision, Finding, Window
from driftloop_contracts.model import Deployment
from driftloop_contracts.retrain import Retrain
from driftloop_settings import Settings
from driftloop_store import Store

WINDOWS = 4
RETRAINS = 4
SLOW = timedelta(minutes=1)
"""How often it is looked for late labels and missed schedules, which last for hours."""
RECORDS = 300
"""The newest retrains, rollouts and decisions that a day's digest is made of."""
GRACE = timedelta(minutes=15)
"""By how much a schedule may be late."""
_DRIFT = (CheckKind.DRIFT, CheckKind.PREDICTION_DRIFT)


class StoreReader:
    """Keeps the drift of windows that it has read: a window never changes."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._drift: dict[str, tuple[Finding, ...]] = {}
        self._slow: dict[str, dict[str, Any]] = {}
        self._slow_at: datetime | None = None
        self._night: Night | None = None

    def read(self, now: datetime, pending: list[Delivery]) -> Snapshot:
        """pending: the deliveries under way. Raises StoreAway."""
        store = self._store
        deployments = store.deployments()
        alerts = store.open_alerts()
        windows = store.newest_windows(WINDOWS)
        rollouts = store.newest_rollouts()
        retrains = store.newest_retrains(RETRAINS)
        decisions = store.newest_decisions({alert.model for alert in alerts})
        if self._slow_at is None or now - self._slow_at >= SLOW:
            self._slow = {d.model.name: self._look_slowly(d, now) for d in deployments}
            self._night = self._read_night(now)
            self._slow_at = now
        seen: dict[str, ModelSeen] = {}
        drift: dict[str, tuple[Finding, ...]] = {}
        for deployment in deployments:
            name = deployment.model.name
            of_model = [_window(w) for w in windows.get(name, ()) if w["kind"] != "labels"]
            judged = next((w for w in of_model if w.status != "inconclusive"), None)
            if judged is not None:
                drift[judged.window_id] = self._drifted(judged)
            seen[name] = ModelSeen(
                name=name,
                windows=tuple(of_model),
                drifted=drift[judged.window_id] if judged else (),
                rollout=next(map(_rollout, rollouts.get(name, ())), None),
                retrains=tuple(Retrain.from_dict(r) for r in retrains.get(name, ())),
                decision=next(map(_decision, decisions.get(name, ())), None),
                **self._slow.get(name, {}),
            )
        self._drift = drift
        return Snapshot(
            now=now,
            models=seen,
            alerts=tuple(alerts),
            degraded=tuple(store.degraded()),
            routes=tuple(
                FailingRoute(d.route, d.at, d.error) for d in pending if d.attempts >= FAILS
            ),
            night=self._night,
        )

    def _read_night(self, now: datetime) -> Night | None:
        alerts = self._settings.alerts
        if not alerts.routes:
            return None
        since, until = period(now, time.fromisoformat(alerts.digest_at), ZoneInfo(alerts.timezone))
        store = self._store
        retrains = [each.to_dict() for each in store.retrains(limit=RECORDS)]
        return night_of(
            since, until, retrains, store.rollouts(limit=RECORDS), store.decisions(limit=RECORDS)
        )

    def _drifted(self, window: Window) -> tuple[Finding, ...]:
        if window.window_id in self._drift:
            return self._drift[window.window_id]
        found = map(_finding, self._store.findings_at(window.model, window.ended_at))
        return tuple(f for f in found if f.kind in _DRIFT and f.window_id == window.window_id)

    def _look_slowly(self, deployment: Deployment, now: datetime) -> dict[str, Any]:
        spec = deployment.model
        state = self._store.cursor(f"monitor/{spec.name}")
        if state is None:
            return {}
        try:
            settings = self._settings.for_model(spec)
        except Rejected:
            return {}  # of another release; the monitor reports it
        timeout_s = settings.monitoring.label_timeout_s
        tested = state.get("tested")
        seen: dict[str, Any] = {"label_timeout_s": timeout_s}
        if tested is not None and spec.task in ("classification", "regression"):
            at = datetime.fromisoformat(tested["at"])
            first = self._store.first_window_after(spec.name, at)
            waits_s = (now - first).total_seconds() if first else 0.0
            # Rows without any baseline are not tested at all, and wait forever.
            seen["labels_wait_s"] = waits_s if waits_s < 1.5 * timeout_s else None
        trigger = settings.trigger
        if trigger.schedule is not None:
            checked = datetime.fromisoformat(state["schedule_checked"])
            seen["missed_at"] = missed(trigger.schedule, trigger.timezone, checked, now)
        return seen


def missed(schedule: str, timezone: str, checked: datetime, now: datetime) -> datetime | None:
    """The latest date of a schedule that passed GRACE ago, if the monitor has not looked at the
    schedule since."""
    from croniter import croniter

    zone = ZoneInfo(timezone)
    local = (now - GRACE).astimezone(zone).replace(tzinfo=None)
    date: datetime = croniter(schedule, local).get_prev(datetime)
    at = date.replace(tzinfo=zone).astimezone(UTC)
    return at if checked < at else None


def _window(record: Mapping[str, Any]) -> Window:
    known = {name: record[name] for name in Window.__dataclass_fields__ if name in record}
    times = {name: datetime.fromisoformat(record[name]) for name in ("started_at", "ended_at")}
    return Window(**{**known, **times})


def _finding(record: Mapping[str, Any]) -> Finding:
    known = {name: record[name] for name in Finding.__dataclass_fields__ if name in record}
    return Finding.from_dict(known)


def _decision(record: Mapping[str, Any]) -> Decision:
    known = {name: record[name] for name in Decision.__dataclass_fields__ if name in record}
    return Decision(**{**known, "at": datetime.fromisoformat(record["at"])})


def _rollout(record: Mapping[str, Any]) -> RolloutSeen:
    history = record.get("history") or ()
    candidate = record["candidate"]
    deadline = record.get("deadline_at")
    return RolloutSeen(
        id=record["id"],
        state=record["state"],
        version=int(candidate["version"] if isinstance(candidate, Mapping) else candidate),
        reason=record.get("reason") or "",
        changed_at=datetime.fromisoformat(history[-1]["at"] if history else record["at"]),
        deadline_at=datetime.fromisoformat(deadline) if deadline else None,
        awaits=record.get("awaits") or "",
        moves=len(history),
    )
