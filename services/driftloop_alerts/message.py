"""What people read: one message of a route, as data and as text. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from driftloop_alerts.conditions import clock_time
from driftloop_alerts.grouping import Item
from driftloop_contracts.incident import Cause, Incident, NoticeKind, Urgency

SHOWN = 10
"""Incidents that a text shows in full; of the others it says how many there are."""
MOST = 1_000
"""Incidents in one message's data."""
WORDS = {
    "performance": "the measured error rose",
    "estimate": "the error is expected to have risen",
    "judge": "the judge's scores fell",
    "quality": "the data are broken",
    "capture_loss": "predictions were lost",
    "rollback": "a candidate was rolled back",
    "retrain_failing": "retrains keep failing",
    "role": "a role keeps failing",
    "route": "a route keeps failing",
    "late_labels": "labels are late",
    "approval": "a person's decision is needed",
    "schedule_missed": "a scheduled retrain was missed",
    "inconclusive": "windows cannot be judged",
    "drift": "drift",
    "night": "the day's decisions",
    "test": "a test",
}
_PREFIX = {
    NoticeKind.OPENED: "",
    NoticeKind.REPEATED: "still open: ",
    NoticeKind.SILENCE_ENDED: "its silence ended: ",
    NoticeKind.RESOLVED: "resolved: ",
}


@dataclass(frozen=True, slots=True)
class Action:
    """What a reader may do by a link: `Approve the canary`, the event `approve`, the link."""

    words: str
    event: str
    href: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One incident in a message. Times are ISO 8601 in UTC; link: to its page. waits: the rollout
    that waits for a person: `rollout`, `awaits`, `moves`. actions: added when it is sent."""

    incident: str
    kind: str
    urgency: str
    model: str
    cause: str
    subject: str
    state: str
    happened: str
    next: str
    count: int
    opened_at: str
    resolved_at: str | None
    link: str
    waits: Mapping[str, Any] | None = None
    actions: tuple[Action, ...] = ()

    @property
    def headline(self) -> str:
        what = WORDS.get(self.cause, self.cause)
        where = self.model or self.subject or "driftloop"
        return f"{_PREFIX[NoticeKind(self.kind)]}{where}: {what}"

    @property
    def resolved(self) -> bool:
        return self.kind == NoticeKind.RESOLVED


@dataclass(frozen=True, slots=True)
class Message:
    """id: also the idempotency key; more: incidents that are not among the entries; counts: of all
    incidents, by `resolved` or their urgency; link: to the page of all incidents."""

    id: str
    route: str
    at: str
    title: str
    entries: tuple[Entry, ...]
    counts: Mapping[str, int]
    more: int
    link: str

    @property
    def open_entries(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.resolved]

    @property
    def urgency(self) -> str:
        """The worst of what is open, else `resolved`."""
        return next((u for u in Urgency if self.counts.get(u)), "resolved")

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "entries": [asdict(e) for e in self.entries]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Message":
        """As the store has it: without actions."""
        entries = tuple(Entry(**{**e, "actions": ()}) for e in value["entries"])
        return cls(**{**value, "entries": entries})


def compose(
    id_: str, route: str, items: Sequence[Item], link: str, zone: ZoneInfo, now: datetime
) -> Message:
    """items: the worst first."""
    entries = tuple(_entry(item, link, zone) for item in items[:MOST])
    counts = Counter(
        "resolved" if item.kind is NoticeKind.RESOLVED else str(item.incident.urgency)
        for item in items
    )
    return Message(
        id=id_,
        route=route,
        at=now.isoformat(),
        title=_title(items, entries, counts),
        entries=entries,
        counts=dict(counts),
        more=len(items) - len(entries),
        link=f"{link}/incidents",
    )


def _entry(item: Item, link: str, zone: ZoneInfo) -> Entry:
    i = item.incident
    over = i.resolved_at
    after = i.next
    if item.kind is NoticeKind.RESOLVED and over is not None:
        since = clock_time(i.at.astimezone(zone))
        unheard = ", before this message" if item.unheard else ""
        after = f"It is over: open from {since} to {clock_time(over.astimezone(zone))}{unheard}."
    return Entry(
        incident=i.id,
        kind=item.kind,
        urgency=i.urgency,
        model=i.model,
        cause=i.cause,
        subject=i.subject,
        state=i.state,
        happened=i.happened,
        next=after,
        count=i.count,
        opened_at=i.at.isoformat(),
        resolved_at=over.isoformat() if over else None,
        link=f"{link}/incidents/{i.id}",
        waits=_waits(i) if item.kind is not NoticeKind.RESOLVED else None,
    )


def _waits(incident: Incident) -> Mapping[str, Any] | None:
    known = {name: incident.evidence.get(name) for name in ("rollout", "awaits", "moves")}
    whole = incident.cause is Cause.APPROVAL and all(v is not None for v in known.values())
    return known if whole else None


def _title(items: Sequence[Item], entries: Sequence[Entry], counts: Mapping[str, int]) -> str:
    if len(items) == 1:
        return f"driftloop {counts_in_words(counts)}: {entries[0].headline}"
    models = {item.incident.model for item in items if item.incident.model}
    on = f" on {len(models):,} models" if len(models) > 1 else ""
    causes = Counter(WORDS.get(item.incident.cause, "") for item in items)
    worst = ", ".join(cause for cause, _ in causes.most_common(2))
    return f"driftloop {counts_in_words(counts)}{on}: {worst}"


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Such as `2 pages, 1 resolved`."""
    words = []
    for name in (*Urgency, "resolved"):
        if number := counts.get(name):
            plural = "s" if number > 1 and name != "resolved" else ""
            words.append(f"{number:,} {name}{plural}")
    return ", ".join(words)


def text_lines(message: Message) -> Iterator[str]:
    """The body of a text, without its title: SHOWN incidents, and what else there is."""
    for entry in message.entries[:SHOWN]:
        yield f"{entry.urgency.upper()} {entry.headline}"
        yield f"{entry.happened} {entry.next}"
        yield entry.link
        yield from (f"{action.words}: {action.href}" for action in entry.actions)
        yield ""
    rest = message.entries[SHOWN:]
    if rest or message.more:
        causes = Counter(WORDS.get(entry.cause, entry.cause) for entry in rest)
        of = ", ".join(f"{number:,} × {cause}" for cause, number in causes.most_common())
        yield f"And {len(rest) + message.more:,} more ({of}): {message.link}"


def text_of(message: Message) -> str:
    return "\n".join(text_lines(message)).rstrip() + "\n"
