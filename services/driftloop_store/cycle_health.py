"""Records in the store whether the cycles of a role succeed; used by all roles.

A role whose cycles have failed for `patience_s` is degraded: the store says so (`driftloop status`
shows it), and one alert is raised. The first cycle that succeeds takes both back. A failure that
is over before is only logged. While the store is away nothing can be said in it; it is said when
the store is back.

A cycle that never ends reports nothing. So each report is a sign of life too (ADR 41): the store
holds its time and for how long the role may stay silent, and `driftloop_gateway.role_watch` reports
a role that stays silent longer.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from hashlib import blake2b

import structlog

from driftloop_contracts.alert import Alert, AlertEvent, AlertState
from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.errors import DriftloopError, NotFound
from driftloop_contracts.health import Degraded, Heartbeat
from driftloop_contracts.judgement import CheckKind, Severity
from driftloop_settings.run_state import ProcessId
from driftloop_settings.this_process import ThisProcess
from driftloop_store.engine import StoreAway
from driftloop_store.store import Store

log = structlog.get_logger()

PATIENCE_S = 60.0
"""A broker that starts beside a role may take half a minute on a busy machine."""
SILENCE_S = 300.0
"""How long most roles' cycles may take before the role counts as hanging."""
WRITTEN_PER_SILENCE = 4
"""How often a heartbeat is written in the time of a silence: a cycle may take a second only."""
MAX_REASON = 300


class CycleHealth:
    """The health of one role (`driftloop_contracts.health.Health`). One thread at a time may report
    on a subject. silence_s: the longest time between two reports; None: no heartbeat is written.
    process: where the role runs."""

    def __init__(
        self,
        store: Store,
        role: str,
        clock: Clock | None = None,
        patience_s: float = PATIENCE_S,
        silence_s: float | None = None,
        process: ThisProcess | None = None,
    ) -> None:
        self._store = store
        self._role = role
        self._clock = clock or system_clock
        # Else the store's, because who reads heartbeats may be on a machine with another time.
        self._beats_by = clock
        self._patience = timedelta(seconds=patience_s)
        self._silence_s = silence_s
        self._process = process
        self._beat_at: datetime | None = None
        self._failing: dict[str, Degraded] = {}
        self._written: dict[str, Degraded] | None = None

    @contextmanager
    def cycle(self, subject: str = "") -> Iterator[None]:
        """What is raised in the block has been reported, and ends the block only. StoreAway is for
        the caller: nothing is wrong with the role, and nothing could be written."""
        self.beat()
        try:
            yield
        except StoreAway:
            raise
        except Exception as error:
            self.failed(error, subject)
        else:
            self.succeeded(subject)

    def beat(self) -> None:
        """The role is at work."""
        if self._silence_s is None:
            return
        now = self._clock()
        often = timedelta(seconds=self._silence_s / WRITTEN_PER_SILENCE)
        if self._beat_at is None or abs(now - self._beat_at) >= often:
            if self._process is not None:  # whether or not the store answers
                self._process.show_alive(self._role)
            with suppress(StoreAway):
                at, pid = (self._beats_by or self._store.now)(), os.getpid()
                beat = Heartbeat(self._role, at, self._silence_s, pid, self._machine)
                if self._beat_at is None:
                    self._forget_the_dead(beat)
                self._store.put_heartbeat(beat)
                self._beat_at = now

    @property
    def _machine(self) -> str:
        return "" if self._process is None else self._process.machine

    def _forget_the_dead(self, beat: Heartbeat) -> None:
        """Drop what processes left that were killed here, and what a release before `machine` did:
        nobody will be heard of there again."""
        for other in self._store.heartbeats():
            was_here = other.role == beat.role and other.machine == beat.machine
            of_before = other.role == beat.role and beat.machine and not other.machine
            if of_before or (was_here and ProcessId.of(other.pid) is None):
                self._store.drop_heartbeat(other)

    def ended(self) -> None:
        """The role stops as it was asked to."""
        if self._silence_s is not None and self._beat_at is not None:
            with suppress(StoreAway):
                self._store.drop_heartbeat(
                    Heartbeat(
                        self._role, self._beat_at, self._silence_s, os.getpid(), self._machine
                    )
                )

    def failed(self, error: Exception | str, subject: str = "") -> None:
        self.beat()
        reason, before = _reason(error), self._failing.get(subject)
        is_new = before is None or before.reason != reason
        trace = error if is_new and isinstance(error, Exception) else None
        log.warning(f"{self._role}.cycle_failed", subject=subject, reason=reason, exc_info=trace)
        with suppress(StoreAway):
            since = (before or self._known().get(subject) or self._now(subject)).since
            failing = Degraded(self._role, since, reason, subject)
            self._failing[subject] = failing
            if self._clock() - since >= self._patience and self._known().get(subject) != failing:
                self._store.put_degraded(failing)
                self._store.raise_alert(_alert(failing))
                self._known()[subject] = failing

    def succeeded(self, subject: str = "") -> None:
        self.beat()
        self._failing.pop(subject, None)
        with suppress(StoreAway):
            written = self._known().get(subject)
            if written is None:
                return
            with suppress(NotFound):
                self._store.change_alert(_alert(written).id, _closed)
            self._store.drop_degraded(written)
            del self._known()[subject]
            log.info(f"{self._role}.recovered", subject=subject)

    def keep_only(self, subjects: Collection[str]) -> None:
        with suppress(StoreAway):
            for subject in {*self._failing, *self._known()}.difference(subjects):
                self.succeeded(subject)

    def read_again(self) -> None:
        """Another process may have reported on the role's subjects meanwhile."""
        self._written = None

    def _known(self) -> dict[str, Degraded]:
        """Return the degraded subjects of this role; only one process at a time writes of each."""
        if self._written is None:
            of_role = (d for d in self._store.degraded() if d.role == self._role)
            self._written = {degraded.subject: degraded for degraded in of_role}
        return self._written

    def _now(self, subject: str) -> Degraded:
        return Degraded(self._role, self._clock(), "", subject)


def _reason(error: Exception | str) -> str:
    ours = isinstance(error, str | DriftloopError)
    said = str(error) if ours else f"{type(error).__name__}: {error}"
    return " ".join(said.split())[:MAX_REASON]


def _alert(degraded: Degraded) -> Alert:
    digest = blake2b(f"{degraded.key}:{degraded.since.isoformat()}".encode(), digest_size=16)
    what = f"{degraded.role} of {degraded.subject}" if degraded.subject else degraded.role
    return Alert(
        id=digest.hexdigest(),
        model=degraded.subject,
        at=degraded.since,
        kind=CheckKind.ROLE,
        severity=Severity.CRITICAL,
        message=f"{what} keeps failing: {degraded.reason}",
        version=None,
        findings=(),
        window="",
        change_at=degraded.since,
    )


def _closed(alert: Alert) -> Alert:
    return alert if alert.state is AlertState.CLOSED else alert.after(AlertEvent.CLOSE)
