"""Whether a role's cycles do what they are for: who reports it, and who reads it.

A role is `degraded` while its cycles keep failing: it runs, and does nothing. See ADR 30.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Degraded:
    """role: its name, or `role/part` for what it does beside its cycles. subject: the model that
    fails while others go on; "" for all of the role. since: of the first failure in a row."""

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
    """Where a role reports how its cycles end. Neither method raises."""

    def failed(self, error: Exception | str, subject: str = "") -> None:
        """A cycle failed, or that of one subject."""

    def succeeded(self, subject: str = "") -> None:
        """A cycle did what it is for: what failed before is over."""

    def keep_only(self, subjects: Collection[str]) -> None:
        """Other subjects do not exist any more, and fail no longer."""


class Unreported:
    """A `Health` that nobody reads."""

    def failed(self, error: Exception | str, subject: str = "") -> None: ...

    def succeeded(self, subject: str = "") -> None: ...

    def keep_only(self, subjects: Collection[str]) -> None: ...
