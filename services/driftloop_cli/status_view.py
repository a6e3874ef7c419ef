"""The status document as a person reads it."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Record = dict[str, Any]
STYLES = {
    "running": "green", "promoted": "green", "succeeded": "green", "closed": "green",
    "backoff": "red", "failed": "red", "rolled_back": "yellow", "open": "red", "rejected": "yellow",
}  # fmt: skip


def status_view(document: Record) -> RenderableType:
    parts: list[RenderableType] = [
        _models(document["models"]),
        _roles(document["roles"]),
        Text("  ".join(f"{name} {address}" for name, address in document["endpoints"].items())),
    ]
    if document["alerts"]:
        parts.append(_alerts(document["alerts"]))
    if document["retrains"]:
        parts.append(_retrains(document["retrains"]))
    if document["rollouts"]:
        parts.append(rollout_table(document["rollouts"]))
    return Group(*parts)


def _models(models: list[Record]) -> RenderableType:
    if not models:
        return Text("no model is deployed; `driftloop deploy MODEL.yaml` serves one")
    columns = (
        "champion",
        "challenger",
        "split",
        "served",
        "in the lake",
        "waiting",
        "dropped",
        "labels",
        "last window",
    )
    table = _table("model", *columns)
    for model in models:
        counts, window = model["counts"], model["window"]
        waiting = counts["served"] - counts["lake_rows"] - counts["retries"] - counts["dropped"]
        judged = "–"
        if window:
            loss = window["mean_loss"]
            judged = f"{window['status']}, {window['rows']} rows"
            judged += f", error {loss:.3f}" if loss is not None else ""
            judged += _judge(window["performance"])
        table.add_row(
            model["name"],
            f"v{model['champion']}",
            f"v{model['challenger']}" if model["challenger"] else "–",
            bar(model["split"]["canary"]),
            f"{counts['served']:,}",
            f"{counts['lake_rows']:,}",
            f"{max(0, waiting):,}",
            _dropped(counts),
            f"{counts['labels']:,}",
            judged,
        )
    return table


def _judge(shown: Record) -> str:
    if "judge_score" not in shown:
        return ""
    return f", judge {shown['judge_score']:.2f}" + (
        "" if shown["judge_counts"] else " (not calibrated)"
    )


def _dropped(counts: Record) -> str:
    """With the reasons, and what is missing for none."""
    reasons = counts["dropped_reasons"]
    parts = [f"{rows:,} {reason}" for reason, rows in sorted(reasons.items())] or ["0"]
    if counts["unexplained"]:
        parts.append(f"[red]{counts['unexplained']:,} unexplained[/red]")
    return ", ".join(parts)


def bar(canary: float, width: int = 10) -> str:
    """The canary's share of the traffic as a bar with its percentage."""
    filled = round(canary * width)
    return "█" * filled + "░" * (width - filled) + f" {canary:.0%}"


def _roles(roles: list[Record]) -> Table:
    table = _table("role", "pid", "state", "restarts")
    for role in roles:
        table.add_row(
            role["name"], str(role["pid"] or "–"), _state(role["state"]), str(role["restarts"])
        )
    return table


def _alerts(alerts: list[Record]) -> Table:
    table = _table("alert", "model", "state", "what", "report")
    for alert in alerts[:5]:
        table.add_row(
            alert["at"][:19],
            alert["model"],
            _state(alert["state"]),
            alert.get("message", ""),
            str(alert.get("report") or "–"),
        )
    return table


def _retrains(retrains: list[Record]) -> Table:
    table = _table("retrain", "model", "state", "progress", "why")
    for retrain in retrains[:5]:
        progress = retrain.get("progress") or {}
        table.add_row(
            retrain["at"][:19],
            retrain["model"],
            _state(retrain["state"]),
            progress.get("message", "–"),
            retrain.get("reason", ""),
        )
    return table


def rollout_table(rollouts: list[Record]) -> Table:
    table = _table("rollout", "model", "candidate", "state", "weight", "why")
    for rollout in rollouts[:5]:
        table.add_row(
            rollout["at"][:19],
            rollout["model"],
            f"v{candidate_version(rollout)}",
            _state(rollout["state"]),
            bar(rollout.get("weight") or 0.0),
            rollout.get("reason", ""),
        )
    return table


def candidate_version(rollout: Record) -> int:
    candidate = rollout["candidate"]
    return int(candidate["version"] if isinstance(candidate, dict) else candidate)


def _state(state: str) -> str:
    style = STYLES.get(state)
    return f"[{style}]{state}[/{style}]" if style else state


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table
