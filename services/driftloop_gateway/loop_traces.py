"""The records of the loop as spans: prediction → window → decision → retrain → rollout, as links.

Pure. Every span is a trace of its own, since a window belongs to thousands of callers' traces and a
rollout to none; links lead from each to those that it came from.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from driftloop_telemetry import Link, Span
from driftloop_telemetry.span import linked_prediction, nanoseconds, record_context

Record = Mapping[str, Any]
WINDOW, DECISION, RETRAIN, ROLLOUT = "window", "decision", "retrain", "rollout"
MOST_LINKS = 32
ENDED = {"promoted", "rolled_back", "aborted"}


def window_span(window: Record, predictions: Iterable[tuple[str, str]]) -> Span:
    """predictions: trace id and prediction id of some of its rows."""
    shown = {
        "driftloop.window.status": window["status"],
        "driftloop.window.rows": window["rows"],
        "driftloop.window.labelled": window["labelled"],
        "driftloop.window.lake_version": window["lake_version"],
    }
    if window.get("mean_loss") is not None:
        shown["driftloop.window.error"] = window["mean_loss"]
    links = tuple(Link(linked_prediction(*each), "prediction") for each in predictions)
    return _span(
        WINDOW, window["window_id"], window, window["started_at"], window["ended_at"], shown,
        links[:MOST_LINKS],
    )  # fmt: skip


def decision_span(decision: Record, windows: Iterable[Record]) -> Span:
    """windows: of its model, newest first."""
    shown = {
        "driftloop.decision.verdict": decision["verdict"],
        "driftloop.decision.trigger": decision["trigger"],
        "driftloop.decision.reason": decision["reason"],
    }
    links = tuple(_link(WINDOW, each["window_id"]) for each in _causes(decision, windows))
    at = decision["at"]
    return _span(DECISION, decision["decision_id"], decision, at, at, shown, links)


def _causes(decision: Record, windows: Iterable[Record]) -> Sequence[Record]:
    """The windows since the change that it decides about; without one, the newest."""
    at = datetime.fromisoformat(decision["at"])
    before = [w for w in windows if datetime.fromisoformat(w["ended_at"]) <= at]
    change = decision.get("evidence", {}).get("change_at")
    if not change:
        return before[:1]
    since = datetime.fromisoformat(change)
    found = [w for w in before if datetime.fromisoformat(w["ended_at"]) >= since]
    return found[:MOST_LINKS] or before[:1]


def retrain_span(retrain: Record) -> Span:
    """Of one that has ended."""
    shown = {
        "driftloop.retrain.state": retrain["state"],
        "driftloop.retrain.trigger": retrain["trigger"],
        "driftloop.retrain.reason": retrain["reason"],
    }
    if retrain.get("version") is not None:
        shown["driftloop.version"] = retrain["version"]
    decision = retrain.get("decision_id")
    links = (_link(DECISION, decision),) if decision else ()
    ended = retrain.get("ended_at") or retrain["at"]
    error = "the retrain failed" if retrain["state"] == "failed" else ""
    return _span(RETRAIN, retrain["id"], retrain, retrain["at"], ended, shown, links, error)


def rollout_span(rollout: Record, retrains: Iterable[Record]) -> Span:
    """Of one that has ended. retrains: those of its model, which may have asked for it."""
    shown = {
        "driftloop.version": rollout["candidate"]["version"],
        "driftloop.rollout.state": rollout["state"],
        "driftloop.rollout.verdict": rollout.get("verdict", "undecided"),
        "driftloop.rollout.reason": rollout["reason"],
    }
    links = tuple(
        _link(RETRAIN, retrain["id"])
        for retrain in retrains
        if (retrain.get("result") or {}).get("rollout") == rollout["id"]
    )
    ended = rollout.get("finished_at") or rollout["at"]
    return _span(ROLLOUT, rollout["id"], rollout, rollout["at"], ended, shown, links)


def has_ended(kind: str, record: Record) -> bool:
    """Whether nothing of it changes any more."""
    if kind == RETRAIN:
        return record["state"] not in ("requested", "running")
    return kind != ROLLOUT or record["state"] in ENDED


def _link(kind: str, record_id: str) -> Link:
    return Link(record_context(kind, record_id), kind)


def _span(
    kind: str,
    record_id: str,
    record: Record,
    started: str,
    ended: str,
    shown: Mapping[str, Any],
    links: tuple[Link, ...],
    error: str = "",
) -> Span:
    first, last = (nanoseconds(datetime.fromisoformat(at)) for at in (started, ended))
    return Span(
        name=f"driftloop.{kind}",
        context=record_context(kind, record_id),
        started_ns=first,
        ended_ns=max(first, last),
        attributes={f"driftloop.{kind}.id": record_id, "driftloop.model": record["model"], **shown},
        links=links,
        error=error,
    )
