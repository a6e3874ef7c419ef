"""A language model's conversations with what people thought of the answers."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from driftloop_console import words
from driftloop_console.charts import Chart, Series
from driftloop_console.tables import Column, Table
from driftloop_contracts.errors import Rejected, listed, shown
from driftloop_contracts.language import CORRECTION, PREFERRED, RATING
from driftloop_contracts.retrain import Retrain

Record = Mapping[str, Any]
MOST_CHARS = 2_000
CONVERSATIONS = 200
OPINIONS = {"rating": RATING, "correction": CORRECTION, "preferred": PREFERRED}
SHOWN = {
    "all": "true",
    "rated": "rating IS NOT NULL",
    "bad": "TRY_CAST(rating AS DOUBLE) < 0.5",
    "corrected": "correction IS NOT NULL OR preferred IS NOT NULL",
}
"""Which conversations are shown, and the condition."""


def conversations_sql(show: str, since: datetime, until: datetime) -> str:
    """The newest ones of a time, with the latest opinion of each kind. Raises Rejected."""
    if show not in SHOWN:
        raise Rejected(f"show={shown(show)}: write {listed(SHOWN)}")
    latest = ", ".join(
        f"arg_max(value_json, (received_at, observed_at)) FILTER (metric = '{metric}') AS {name}"
        for name, metric in OPINIONS.items()
    )
    return f"""WITH opinions AS (
            SELECT prediction_id, row, {latest} FROM labels GROUP BY ALL
        )
        SELECT predicted_at, version, arm, left(CASE WHEN json_valid(messages)
                THEN messages ->> '$[#-1].content' END, {MOST_CHARS}) AS asked,
            left(text, {MOST_CHARS}) AS text, finish_reason, rating, correction, preferred,
            prediction_id
        FROM predictions LEFT JOIN opinions USING (prediction_id, row)
        WHERE predicted_at >= TIMESTAMPTZ '{since.isoformat()}'
            AND predicted_at < TIMESTAMPTZ '{until.isoformat()}'
            AND operation IS DISTINCT FROM 'embeddings' AND ({SHOWN[show]})
        ORDER BY predicted_at DESC LIMIT {CONVERSATIONS}"""


def conversations_table(rows: Sequence[Record]) -> Table:
    """rows: of `conversations_sql`. The answer, and beside it what it should have been."""
    columns = (
        Column("at", "Time", "time"),
        Column("version", "Version", "count"),
        Column("arm", "Arm"),
        Column("asked", "Asked", "sentence"),
        Column("answered", "Answered", "sentence"),
        Column("rating", "Rating", "number"),
        Column("wanted", "Correction, or what was preferred", "sentence"),
        Column("prediction_id", "Prediction"),
    )
    found = [
        {
            "at": row["predicted_at"].isoformat(),
            "version": row["version"],
            "arm": row["arm"],
            "asked": row["asked"],
            "answered": row["text"] or row["finish_reason"],
            "rating": _number(row["rating"]),
            "wanted": _text(row["correction"]) or _text(row["preferred"]),
            "prediction_id": row["prediction_id"],
        }
        for row in rows
    ]
    empty = "No such conversation in this time: choose a longer time, or send ratings."
    return Table("conversations", columns, found, empty)


def before_and_after(retrain: Retrain | None) -> Table:
    """Held-out prompts of the newest fine-tune, answered by the champion and by its candidate."""
    columns = (
        Column("prompt", "Asked", "sentence"),
        Column("champion", "Before", "sentence"),
        Column("candidate", "After", "sentence"),
        Column("wanted", "Wanted", "sentence"),
    )
    samples = (retrain.result or {}).get("samples", ()) if retrain else ()
    rows = [{c.key: words.clip(s.get(c.key, ""), MOST_CHARS) for c in columns} for s in samples]
    empty = "No fine-tune ended yet. It starts by itself after enough corrections or ratings."
    return Table("samples", columns, rows, empty)


def judge_facts(windows: Sequence[Record]) -> dict[str, Any]:
    """How well the judge's scores agree with people's ratings. windows: newest first."""
    shown = next((w["performance"] for w in windows if "judge_answers" in w["performance"]), None)
    if shown is None:
        return {}
    area, lower = shown.get("judge_auc"), shown.get("judge_auc_lower")
    counts = "counts: people's ratings confirm it" if shown.get("judge_counts") else (
        "shown only: too few ratings, or they do not confirm it"
    )  # fmt: skip
    return {
        "The judge": counts,
        "Mean score, newest window": words.number(shown.get("judge_score")),
        "Mean score, reference": words.number(shown.get("judge_score_reference")),
        "Answers scored in the newest window": words.count(shown["judge_answers"]),
        "Answers rated by people and scored": words.count(shown.get("judge_rated")),
        "Agreement with people (AUC)": None if area is None else (
            f"{area:.3f}, at least {lower:.3f} (0.5: none, 1: whole)"
        ),
    }  # fmt: skip


def judge_chart(windows: Sequence[Record]) -> Chart | None:
    """The judge's mean score of each window, and its agreement with people. windows: newest
    first."""
    scored = [w for w in reversed(windows) if "judge_score" in w["performance"]]
    if not scored:
        return None
    shown = [w["performance"] for w in scored]
    names = (("Score", "judge_score"), ("Agreement (AUC)", "judge_auc"))
    return Chart(
        "The judge's mean score of each window, the reference's, and its agreement with people",
        tuple(datetime.fromisoformat(w["ended_at"]).timestamp() for w in scored),
        (
            *(Series(label, tuple(one.get(name) for one in shown)) for label, name in names),
            Series("Reference", tuple(o.get("judge_score_reference") for o in shown), "limit"),
        ),
    )


def _number(value_json: str | None) -> float | None:
    found = _json(value_json)
    return float(found) if isinstance(found, int | float) else None


def _text(value_json: str | None) -> str | None:
    found = _json(value_json)
    return words.clip(found, MOST_CHARS) if isinstance(found, str) else None


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
