"""The record of a retrained version, with all that a report shows."""

from typing import Any


def report_record() -> dict[str, Any]:
    check = {
        "name": "overall", "passed": True, "rows": 300, "champion": 0.2, "candidate": 0.1,
        "improvement": 0.1, "p_worse": 0.93, "reason": "better", "low": 0.05, "high": 0.15,
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
        "labels": {
            "answers": 2_300, "labelled": 2_003,
            "coverage": {"mean": 0.871, "low": 0.857, "high": 0.884, "rows": 2_300},
            "delay_s": {"50%": 61.5, "90%": 640.25, "99%": 7_200.0},
        },
        "new_rows": {
            "rows": 700, "share": 0.35, "columns": [{"column": "income", "distance": 0.122}],
        },
        "search": {
            "sampler": "tpe", "validation": "newest", "budget_s": 30.0, "spent_s": 28.4,
            "count": 12, "pruned": 3, "failed": {"ValueError: no": 1},
            "space": [
                {"recipe": "gradient-boosting", "parameter": "learning_rate", "low": 0.02,
                 "high": 0.2, "scale": "log"},
                {"recipe": "tabular-network", "parameter": "width", "values": [48, 96]},
            ],
        },
        "trials": [
            {"family": "gradient-boosting", "span": "all", "rounds": 12, "mean_loss": 0.1234567,
             "over_champion": 0.0512, "over_champion_low": 0.0311, "over_champion_high": 0.0713,
             "over_baseline": 0.1512, "over_baseline_low": 0.1311, "over_baseline_high": 0.1713}
        ],
        "metrics": {"accuracy": 0.91234567},
        "champion_metrics": {"accuracy": 0.8},
        "gate": {"verdict": "passed", "level": 0.025,
                 "checks": [check, {**check, "name": "country=de"}]},
        "postprocessing": {
            "calibration": {"form": "scaled", "slope": 0.71, "bias": [0.0, 0.12]},
            "costs": [[0.0, 0.111], [1.0, 0.0]], "threshold": 0.1, "rows": 300,
            "loss": {"before": 0.31, "after": 0.17}, "log_loss": {"before": 0.52, "after": 0.44},
        },
        "twin": {
            "kept": False, "reason": "no form is shown to be as good, and faster",
            "allowed": 0.001, "plain_size_bytes": 48_213,
            "forms": [
                {"form": "int8", "good": False, "reason": "it is not shown to be faster",
                 "rise": {"mean": 0.0002, "low": -0.0004, "high": 0.0008, "rows": 300},
                 "size_bytes": 31_400,
                 "speed": [{"rows": 1, "ratio": 0.98, "low": 0.91, "high": 1.07}]},
            ],
        },
        "parity": {"rows": 300, "largest_difference": 1e-8},
        "evaluation": {
            "confusion": {"classes": ["no", "yes"], "rows": [[200, 10], [20, 70]]},
            "calibration": [
                {"low": 0.5, "high": 0.6, "rows": 40, "said": 0.55, "true": 0.6,
                 "true_low": 0.44, "true_high": 0.74},
                {"low": 0.9, "high": 1.0, "rows": 90, "said": 0.95, "true": 0.93,
                 "true_low": 0.86, "true_high": 0.97},
            ],
            "importance": [
                {"column": "income", "rise": 0.21, "low": 0.18, "high": 0.24, "was": 0.11,
                 "moved": 0.1},
            ],
            "scored": "yes",
            "curve": [
                {"threshold": 0.9, "recall": 0.4, "false_positive_rate": 0.02, "precision": 0.91},
                {"threshold": 0.5, "recall": 0.78, "false_positive_rate": 0.05, "precision": 0.87},
                {"threshold": 0.1, "recall": 1.0, "false_positive_rate": 1.0, "precision": 0.3},
            ],
            "contributions": [
                {"quantile": 0.5, "score": 0.62, "mean": 0.33, "columns": [
                    {"column": "income", "value": "1200.5", "contribution": 0.27},
                    {"column": "country", "value": "<b>de</b>", "contribution": -0.02},
                ]},
            ],
            "disagreement": {
                "rows": 300, "differ": 42, "share": {"mean": 0.14, "low": 0.105, "high": 0.184},
                "gain_where_they_differ": {"mean": 0.6, "low": 0.4, "high": 0.8, "rows": 42},
            },
            "groups": [
                {"group": "country=de", "rows": 120, "loss": 0.09, "loss_low": 0.04,
                 "loss_high": 0.14, "called_positive": 0.31, "called_positive_low": 0.235,
                 "called_positive_high": 0.398, "missed": 0.1, "missed_low": 0.04,
                 "missed_high": 0.23, "false_positives": 0.06, "false_positives_low": 0.025,
                 "false_positives_high": 0.135},
            ],
            "speed": [
                {"rows": 1, "seconds": 2.1e-5, "champion_seconds": 2.4e-5, "ratio": 0.875,
                 "low": 0.81, "high": 0.94},
            ],
            "size_bytes": 48_213, "champion_size_bytes": 51_002,
            "memory_bytes": 1_204_224, "champion_memory_bytes": 1_310_720,
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
