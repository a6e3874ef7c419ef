"""What is new among alerts, retrains and rollouts since they were last looked at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["alerts", "retrains", "rollouts"]
CHANGING: tuple[Kind, ...] = ("alerts", "retrains", "rollouts")


@dataclass(frozen=True, slots=True)
class Change:
    """`record`: as the control API has it now."""

    kind: Kind
    record: dict[str, Any]


class Changes:
    """Remembers the state of each record."""

    def __init__(self) -> None:
        self._states: dict[tuple[Kind, str], Any] = {}
        self._known = False

    def of(self, kind: Kind, records: Sequence[dict[str, Any]]) -> Iterator[Change]:
        """Those that are new or changed their state, oldest first; none of the first look."""
        for record in reversed(records):
            key, state = (kind, str(record["id"])), _state(record)
            if self._known and self._states.get(key) != state:
                yield Change(kind, record)
            self._states[key] = state

    def seen_once(self) -> None:
        """The first look is over: what comes from now on is a change."""
        self._known = True


def _state(record: dict[str, Any]) -> Any:
    names = ("state", "status", "step", "weight", "acknowledged_at", "closed_at")
    return tuple(record.get(name) for name in names)
