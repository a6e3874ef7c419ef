"""The health of roles: reporting whether their cycles succeed.

A role is `degraded` while its cycles keep failing: it runs but accomplishes nothing. See ADR 30.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Degraded:
    """role: its name, or `role/part` for work beside its cycles. subject: the model whose cycles
    fail while others succeed; "" for the whole role. since: the first failure in a row."""

    role: str
    since: datetime
    reason: str
    subject: str = ""

    @property
    def key(self) -> str:
        return f"{self.role}:{self.subject}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "since": self.since.isoformat()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Degraded":
        return cls(**{**value, "since": datetime.fromisoformat(value["since"])})


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A role was at work `at` that time and promised to be heard of again within `limit_s`; `pid`:
    its process, and `machine` that one's (host and state directory). Who reads it decides by the
    clock: what hangs cannot say so. See ADR 41."""

    role: str
    at: datetime
    limit_s: float
    pid: int
    machine: str = ""

    @property
    def host(self) -> str:
        return self.machine.partition(":")[0]

    def silent_since(self, now: datetime, started: datetime | None = None) -> datetime | None:
        """When it was heard of last, if that is longer ago than it promised. started: when its
        process of now did, if that is another one."""
        heard = self.at if started is None else started
        return heard if now - heard > timedelta(seconds=self.limit_s) else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Heartbeat":
        return cls(**{**value, "at": datetime.fromisoformat(value["at"])})


class Health(Protocol):
    """Receives the results of a role's cycles. The methods never raise."""

    def failed(self, error: Exception | str, subject: str = "") -> None:
        """Report that a cycle failed, possibly only for one subject."""

    def succeeded(self, subject: str = "") -> None:
        """Report that a cycle succeeded, which ends earlier failures."""

    def keep_only(self, subjects: Collection[str]) -> None:
        """Forget other subjects, which no longer exist."""


class Unreported:
    """A `Health` that ignores all reports."""

    def failed(self, error: Exception | str, subject: str = "") -> None: ...

    def succeeded(self, subject: str = "") -> None: ...

    def keep_only(self, subjects: Collection[str]) -> None: ...
