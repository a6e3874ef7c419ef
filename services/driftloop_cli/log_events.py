"""Lines of the roles' logs as events. Pure: no file is read here.

driftloop's own lines are JSON objects (`driftloop_settings.logs`). Other programs write text: a
time at its beginning is understood; a line without one belongs to the time of the line before.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from driftloop_contracts.errors import Rejected

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TIME = re.compile(r"^\[?(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?(Z|\+00:00)?\]?\s*")
_LEVEL = re.compile(r"^\[?\s*(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b\s*\]?\s*", re.I)
_LEVELS = {"warn": "warning", "fatal": "critical"}
_OWN = ("event", "level", "timestamp")
LONG = 500
"""A longer value is cut for people; JSON has all of it."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """at: None before the first time in a file. event: its name, or the text of a foreign line."""

    role: str
    at: datetime | None
    level: str
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def concerns(self, model: str) -> bool:
        """`subject` is a model in the events of cycles that fail."""
        own = self.fields.get("model"), self.fields.get("subject")
        named = self.fields.get("models")
        return model in own or (isinstance(named, list) and model in named)

    def to_json(self) -> str:
        at = self.at and self.at.isoformat()
        shown = {"at": at, "role": self.role, "level": self.level, "event": self.event}
        return json.dumps(shown | {k: v for k, v in self.fields.items() if k not in shown})

    def to_line(self) -> str:
        """For people: one line, in UTC."""
        at = f"{self.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] if self.at else "-" * 23
        parts = [f"{at} {self.role:<10} {self.level:<8} {self.event}"]
        parts += [f"{name}={_short(name, value)}" for name, value in self.fields.items()]
        return " ".join(" ".join(parts).split("\n"))


def parse(line: str, role: str, before: datetime | None) -> LogEvent | None:
    """The event of a line; None if it is empty. before: the time of the line before it. Times
    without a zone are this machine's."""
    text = _COLOUR.sub("", line).rstrip()
    if not text.strip():
        return None
    if text.startswith("{"):
        try:
            return _own(json.loads(text), role, before)
        except (ValueError, TypeError):
            pass
    at, level = before, "info"
    if found := _TIME.match(text):
        at, text = _time(found) or before, text[found.end() :]
    if found := _LEVEL.match(text):
        name = found[1].lower()
        level, text = _LEVELS.get(name, name), text[found.end() :]
    return LogEvent(role, at, level, text)


def events(lines: Iterable[str], role: str, before: datetime | None = None) -> Iterator[LogEvent]:
    for line in lines:
        found = parse(line, role, before)
        if found is not None:
            before = found.at
            yield found


def merged(found: Iterable[LogEvent]) -> list[LogEvent]:
    """By time; events of one role in the order of its file, those without a time first."""
    return sorted(found, key=lambda event: event.at or datetime.min.replace(tzinfo=UTC))


def _own(document: dict[str, Any], role: str, before: datetime | None) -> LogEvent:
    if "event" not in document:
        raise ValueError("not one of our lines")
    stamp = document.get("timestamp")
    at = datetime.fromisoformat(stamp) if stamp else before
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    fields = {name: value for name, value in document.items() if name not in _OWN}
    return LogEvent(role, at, str(document.get("level", "info")), str(document["event"]), fields)


def _time(found: re.Match[str]) -> datetime | None:
    try:
        at = datetime.fromisoformat(found[1]).replace(
            microsecond=int((found[2] or "0").ljust(6, "0"))
        )
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if found[3] else at.astimezone(UTC)


def _short(name: str, value: object) -> str:
    if name == "exception":  # the last line says what; JSON has the frames
        value = str(value).strip().rsplit("\n", 1)[-1]
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text if len(text) <= LONG else text[: LONG - 1] + "…"
    plain = bool(text) and not any(sign in text for sign in ' "=\n')
    return text if plain or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)


def require_role(role: str, known: Iterable[str]) -> None:
    """Raises Rejected, naming those that there are."""
    names = sorted(known)
    if role not in names:
        raise Rejected(f"there is no log of {role!r}; there are those of {', '.join(names)}")
