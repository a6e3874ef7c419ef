"""What the store says now, as far as incidents follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from driftloop_alerts.night import Night
from driftloop_contracts.alert import Alert
from driftloop_contracts.health import Degraded
from driftloop_contracts.judgement import Decision, Finding, Window
from driftloop_contracts.retrain import Retrain


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSeen:
    """A rollout as an incident needs it: the newest one of a model. moves: its transitions."""

    id: str
    state: str
    version: int
    reason: str
    changed_at: datetime
    deadline_at: datetime | None = None
    awaits: str = ""
    moves: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSeen:
    """windows: the newest, newest first; drifted: the findings of drift of the newest judged one;
    retrains: the newest, newest first; labels_wait_s: how long the oldest row waits for its label,
    of label_timeout_s that it may; missed_at: when the schedule should have decided and did not."""

    name: str
    windows: tuple[Window, ...] = ()
    drifted: tuple[Finding, ...] = ()
    rollout: RolloutSeen | None = None
    retrains: tuple[Retrain, ...] = ()
    decision: Decision | None = None
    labels_wait_s: float | None = None
    label_timeout_s: float = 86_400.0
    missed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FailingRoute:
    """name: the route's; since: of the first failure in a row."""

    name: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """alerts: those that are not closed. night: None if it was not read."""

    now: datetime
    models: Mapping[str, ModelSeen] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()
    degraded: tuple[Degraded, ...] = ()
    routes: tuple[FailingRoute, ...] = ()
    night: Night | None = None
