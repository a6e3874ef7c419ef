"""The report of a fine-tuning for people: training data, gate, answers before and after."""

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto;
max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } th, td { text-align: left;
vertical-align: top; padding: .35rem .7rem; border-bottom: 1px solid #ddd; white-space: pre-wrap; }
.no { color: #b00020; } .yes { color: #0a7d32; }
"""


def write_report(folder: Path, model: str, outcome: Mapping[str, Any]) -> Path:
    """Write report.html and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    path.write_text(report(model, outcome))
    return path


def report(model: str, outcome: Mapping[str, Any]) -> str:
    """Return a self-contained HTML page."""
    gate = outcome["gate"]
    checks = (
        (
            check["name"],
            f"{check['champion']:.4g}",
            f"{check['candidate']:.4g}",
            ("" if check["passed"] else "✗ ") + check["reason"],
        )
        for check in gate["checks"]
    )
    metrics = (
        (name, f"{outcome['champion_metrics'].get(name, float('nan')):.4g}", f"{value:.4g}")
        for name, value in outcome["metrics"].items()
    )
    samples = (
        (s["prompt"], s["champion"], s["candidate"], s["wanted"]) for s in outcome["samples"]
    )
    verdict = "yes" if gate["verdict"] == "passed" else "no"
    learnt = f"{outcome['trained_rows']:,} to train on, {outcome['holdout_rows']:,} held out"
    parts = [
        f"<h1>{escape(model)}: fine-tuned with {escape(outcome['family'])}</h1>",
        f"<p>Gate: <b class={verdict}>{escape(gate['verdict'])}</b>. {outcome['rounds']} steps on "
        f"{outcome['rows']:,} answers from the {escape(outcome['data'])}: {learnt}.</p>",
        "<h2>Checks</h2>",
        _table(("", "champion", "candidate", ""), checks),
        "<h2>Metrics on the hold-out</h2>",
        _table(("", "champion", "candidate"), metrics),
        "<h2>Learnt from</h2>",
        _table(("kind", "count"), _counts(outcome["kinds"])),
        "<h2>Left out</h2>",
        _table(("reason", "answers"), _counts(outcome["dropped"])),
        "<h2>Held-out prompts, before and after</h2>",
        _table(("prompt", "champion", "candidate", "wanted"), samples),
    ]
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(model)}: fine-tune</title>"
        f"<style>{STYLE}</style>" + "\n".join(parts)
    )


def _counts(counts: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    return ((name, f"{count:,}") for name, count in counts.items())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    ]
    return "<table>" + "".join(lines) + "</table>"
