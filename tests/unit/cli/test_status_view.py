"""What `driftloop status` shows of a model."""

from typing import Any

import pytest

from driftloop_cli.status_view import status_view


@pytest.mark.parametrize(("served", "waiting"), [(112, "0"), (117, "5")])
def test_a_row_that_was_served_twice_and_kept_once_does_not_wait(served: int, waiting: str) -> None:
    counts = {
        "served": served,
        "lake_rows": 100,
        "retries": 12,
        "dropped": 0,
        "dropped_reasons": {},
        "unexplained": 0,
        "labels": 7,
    }
    model: dict[str, Any] = {
        "name": "loan",
        "champion": 1,
        "challenger": None,
        "split": {"stable": 1.0, "canary": 0.0},
        "counts": counts,
        "window": None,
    }
    document = {
        "models": [model],
        "roles": [],
        "endpoints": {},
        "alerts": [],
        "retrains": [],
        "rollouts": [],
    }
    row = next(line.plain for line in status_view(document, 200) if "loan" in line.plain)
    assert f"{served} 100 {waiting}" in " ".join(row.split())
