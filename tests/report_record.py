"""The record of a retrained version, with all that a report shows."""

from typing import Any


def report_record() -> dict[str, Any]:
    check = {
        "name": "overall", "passed": True, "rows": 300, "champion": 0.2, "candidate": 0.1,
        "improvement": 0.1, "p_worse": 0.93, "reason": "better",
    }  # fmt: skip
    outcome = {
        "family": "gradient-boosting", "span": "all", "rounds": 12,
        "data": "lake loans predictions@3 labels@4",
        "data_range": ["2026-11-01T00:00:00", "2026-11-20T00:00:00"],
        "data_checks": {
            "rows": 2_003, "left_out": {"age is above 120": 3}, "repeated": 4,
            "classes": {"no": 1_500, "yes": 500}, "warnings": ["a warning"],
            "suspected_labels": {"rows": 1_700, "suspected": 11, "examples": [5, 8]},
        },
        "trials": [
            {"family": "gradient-boosting", "span": "all", "rounds": 12, "mean_loss": 0.1234567}
        ],
        "metrics": {"accuracy": 0.91234567},
        "champion_metrics": {"accuracy": 0.8},
        "gate": {"verdict": "passed", "checks": [check, {**check, "name": "country=de"}]},
        "parity": {"rows": 300, "largest_difference": 1e-8},
        "evaluation": {
            "confusion": {"classes": ["no", "yes"], "rows": [[200, 10], [20, 70]]},
            "calibration": [{"low": 0.9, "high": 1.0, "rows": 90, "said": 0.95, "true": 0.93}],
            "importance": [{"column": "income", "rise": 0.21}],
        },
    }  # fmt: skip
    lineage = {
        "model": "loans", "version": 2, "source": "retrain", "aliases": ["champion"],
        "ancestors": [1], "made_at": "2026-11-20T01:00:00", "trigger": "alert",
        "reason": "the error rose", "parent_version": 1, "seed": 0, "graph_sha256": "ef" * 32,
        "data": {
            "rows": 2_000, "trained_rows": 1_700, "holdout_rows": 300, "fresh_rows": 0,
            "predictions": 3, "labels": 4, "as_of": "2026-11-20T00:59:00",
        },
        "code": {"version": "0.1.0", "commit": "abc", "sha256": "ab" * 32, "recipes": {}},
        "environment": {"python": "3.11.7", "machine": "Linux x86_64", "sha256": "cd" * 32},
        "training": {"settings": {"families": ["tabular"], "seed": 0},
                     "spec": {"task": "classification"}},
        "files": {"model.onnx": "01" * 32},
    }  # fmt: skip
    history = [
        {"at": "2026-11-20T02:00:00", "event": "promote", "state": "promoted", "weight": 1.0,
         "actor": "an operator", "reason": "not worse"}
    ]  # fmt: skip
    return {
        "lineage": lineage,
        "outcome": outcome,
        "retrain": {"at": "2026-11-20T00:59:00", "ended_at": "2026-11-20T01:00:00"},
        "decision": {"reason": "the error rose by 3 points", "evidence": {"labels": 2_000}},
        "rollouts": [{"id": "r", "state": "promoted", "history": history}],
    }
