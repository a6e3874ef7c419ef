"""The health of roles: reporting whether their cycles succeed.

A role is `degraded` while its cycles keep failing: it runs but accomplishes nothing. See ADR 30.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
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
