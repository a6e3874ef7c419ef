"""How often judging the oldest open window, or the newest labels, was begun without coming to an
end, and when to give up."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

MIN_TRIES = 5
MIN_TIME = timedelta(minutes=2)
"""What ends by itself, such as an engine or a lake that is away, is mostly over by then."""
MAX_REASON = 300


@dataclass(frozen=True, slots=True)
class WindowTries:
    """count: how often it was begun, the try under way included; since: the first time; reason: why
    the last one failed, or "" if nobody was left to say it."""

    count: int
    since: datetime
    reason: str = ""

    def exhausted(self, now: datetime) -> bool:
        """Whether the rows are to be given up, before another try is begun: after MIN_TRIES and
        MIN_TIME."""
        return self.count >= MIN_TRIES and now - self.since >= MIN_TIME

    def failed(self, error: Exception) -> "WindowTries":
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return replace(self, reason=said[:MAX_REASON])

    @property
    def sentence(self) -> str:
        why = self.reason or "the monitor ended while it judged"
        return f"it could not be judged in {self.count} tries: {why}"

    def to_dict(self) -> dict[str, Any]:
        return {"count": self.count, "since": self.since.isoformat(), "reason": self.reason}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "WindowTries":
        return cls(value["count"], datetime.fromisoformat(value["since"]), value["reason"])


def begun(before: WindowTries | None, now: datetime) -> WindowTries:
    """With one more try. It is counted before it is begun: a window can end the process."""
    return WindowTries(1, now) if before is None else replace(before, count=before.count + 1)
