"""Formats the status document for people."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from driftloop_cli.table_layout import Cell, Rows
from driftloop_cli.terminal import styled
from driftloop_contracts.durations import in_words

Record = dict[str, Any]
STYLES = {
    "running": "green", "promoted": "green", "succeeded": "green", "closed": "green",
    "backoff": "red", "degraded": "red", "failed": "red", "open": "red", "rolled_back": "yellow",
    "rejected": "yellow",
}  # fmt: skip
_SHOWN = 5


def status_view(document: Record, width: int | None) -> list[Text]:
    """Return lines of at most `width` columns, unless names and addresses are longer; None: no
    limit."""
    parts: list[Sequence[Text]] = [
        _models(document["models"], width),
        _roles(document["roles"]).lines(width),
        [styled((_degraded(found), "red")) for found in document.get("degraded", ())],
        [styled((name, "dim"), f" {at}") for name, at in document["endpoints"].items()],
    ]
    if document["alerts"]:
        parts.append(_alerts(document["alerts"]).lines(width))
    if document["retrains"]:
        parts.append(_retrains(document["retrains"]).lines(width))
    if document["rollouts"]:
        parts.append(rollout_rows(document["rollouts"]).lines(width))
    return list(_apart(parts))


def _apart(parts: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """Yield the lines of all parts, separated by empty lines."""
    for number, part in enumerate(part for part in parts if part):
        if number:
            yield Text()
        yield from part


def _models(models: list[Record], width: int | None) -> list[Text]:
    if not models:
        return [Text("no model is deployed; `driftloop deploy MODEL.yaml` serves one")]
    columns = (
        "model", "champion", "challenger", "split", "served", "in the lake", "waiting", "dropped",
        "labels", "last window",
    )  # fmt: skip
    return Rows(columns, [_model(model) for model in models]).lines(width)


def _model(model: Record) -> list[Cell]:
    counts, window = model["counts"], model["window"]
    waiting = counts["served"] - counts["lake_rows"] - counts["retries"] - counts["dropped"]
    counted = counts.get("counted_at", "") is not None
    judged = "–"
    if window:
        loss = window["mean_loss"]
        judged = f"{window['status']}, {window['rows']} rows"
        judged += f", error {loss:.3f}" if loss is not None else ""
        judged += _judge(window["performance"])
    return [
        model["name"],
        f"v{model['champion']}",
        f"v{model['challenger']}" if model["challenger"] else "–",
        bar(model["split"]["canary"]),
        f"{counts['served']:,}",
        f"{counts['lake_rows']:,}" if counted else "–",
        f"{max(0, waiting):,}" if counted else "–",
        _dropped(counts),
        f"{counts['labels']:,}" if counted else "–",
        judged,
    ]


def _judge(shown: Record) -> str:
    if "judge_score" not in shown:
        return ""
    return f", judge {shown['judge_score']:.2f}" + (
        "" if shown["judge_counts"] else " (not calibrated)"
    )


def _dropped(counts: Record) -> Cell:
    """Return the dropped rows by reason, and those missing for an unknown reason."""
    reasons = counts["dropped_reasons"]
    text = ", ".join(f"{rows:,} {reason}" for reason, rows in sorted(reasons.items())) or "0"
    if counts["unexplained"]:
        return f"{text}, {counts['unexplained']:,} unexplained", "red"
    return text


def bar(canary: float, width: int = 10) -> str:
    """Draw the canary's share of the traffic as a bar with its percentage."""
    filled = round(canary * width)
    return "█" * filled + "░" * (width - filled) + f" {canary:.0%}"


def _roles(roles: list[Record]) -> Rows:
    return Rows(
        ("role", "pid", "state", "restarts"),
        [
            (role["name"], str(role["pid"] or "–"), _state(role["state"]), str(role["restarts"]))
            for role in roles
        ],
    )


def _degraded(found: Record) -> str:
    what = f"{found['role']} ({found['subject']})" if found["subject"] else found["role"]
    return f"{what} degraded: {found['reason']} since {found['since'][:19]}"


def _alerts(alerts: list[Record]) -> Rows:
    return Rows(
        ("alert", "model", "state", "what", "report"),
        [
            (
                alert["at"][:19],
                alert["model"],
                _state(alert["state"]),
                alert.get("message", ""),
                str(alert.get("report") or "–"),
            )
            for alert in alerts[:_SHOWN]
        ],
        frozenset({"what"}),
    )


def _retrains(retrains: list[Record]) -> Rows:
    return Rows(
        ("retrain", "model", "state", "progress", "why"),
        [
            (
                retrain["at"][:19],
                retrain["model"],
                _state(retrain["state"]),
                (retrain.get("progress") or {}).get("message", "–"),
                retrain.get("reason", ""),
            )
            for retrain in retrains[:_SHOWN]
        ],
        frozenset({"progress", "why"}),
    )


def rollout_rows(rollouts: list[Record]) -> Rows:
    return Rows(
        ("rollout", "model", "candidate", "state", "weight", "verdict in", "why"),
        [
            (
                rollout["at"][:19],
                rollout["model"],
                f"v{candidate_version(rollout)}",
                _state(rollout["state"]),
                bar(rollout.get("weight") or 0.0),
                _verdict_in(rollout),
                rollout.get("reason", ""),
            )
            for rollout in rollouts[:_SHOWN]
        ],
        frozenset({"why"}),
    )


def _verdict_in(rollout: Record) -> Cell:
    outlook = rollout.get("outlook") or {}
    if rollout["state"] not in ("running", "paused"):
        return "–"
    seconds = outlook.get("seconds_to_verdict")
    text = "unknown" if seconds is None else in_words(seconds)
    return (text, "red") if outlook.get("late") else text


def candidate_version(rollout: Record) -> int:
    candidate = rollout["candidate"]
    return int(candidate["version"] if isinstance(candidate, dict) else candidate)


def _state(state: str) -> Cell:
    return state, STYLES.get(state, "")
