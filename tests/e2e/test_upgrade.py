"""A state directory of the previous release, as a kill left it, is taken over by `up`."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from command_line import FREE_PORTS, Driftloop, eventually
from previous_release import expected, unpack

pytestmark = pytest.mark.e2e
PORTS = [word for port in FREE_PORTS for word in ("--set", port)]


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driftloop]:
    """Running, with all that the previous release had answered in the lake."""
    driftloop = Driftloop(unpack(tmp_path_factory.mktemp("previous")))
    driftloop("up", "--detach", *PORTS, "--set", "lake.flush_seconds=0.5", timeout=330)
    try:
        total = 10 * len(expected()["ids"])
        eventually(
            lambda: counts(driftloop),
            lambda c: c["lake_rows"] >= total and c["labels"] >= expected()["labels"],
            timeout_s=120,
        )
        yield driftloop
    finally:
        driftloop("down")


def model(driftloop: Driftloop) -> dict[str, Any]:
    (found,) = driftloop("status")["models"]
    assert found["name"] == "loans"
    return dict(found)


def counts(driftloop: Driftloop) -> dict[str, int]:
    return dict(model(driftloop)["counts"])


@pytest.fixture(scope="module")
def seen(upgraded: Driftloop) -> dict[str, Any]:
    """What is there after the upgrade, before a test changes it: status and rows of predictions."""
    rows = upgraded(
        "query", "loans", "SELECT prediction_id AS id, count(*) AS rows FROM labelled GROUP BY ALL",
        "--limit", "0",
    )  # fmt: skip
    return {**upgraded("status"), "rows": rows}


def test_every_answer_and_label_is_in_the_lake_once(seen: dict[str, Any]) -> None:
    """Those that only Kafka and only the spool had, too."""
    assert {row["id"]: row["rows"] for row in seen["rows"]} == dict.fromkeys(expected()["ids"], 10)
    found = seen["models"][0]["counts"]
    total = 10 * len(expected()["ids"])
    assert (found["lake_rows"], found["labels"], found["served"]) == (total, total, total)
    assert found["dropped"] == found["duplicates"] == found["unexplained"] == 0


def test_records_are_as_they_were(seen: dict[str, Any]) -> None:
    assert [alert["id"] for alert in seen["alerts"]] == expected()["alarms"]
    assert {r["id"]: r["state"] for r in seen["retrains"]} == expected()["retrains"]
    assert {r["id"]: r["state"] for r in seen["rollouts"]} == expected()["rollouts"]
    assert seen["models"][0]["split"] == expected()["split"]


@pytest.mark.usefixtures("seen")
def test_the_paused_canary_goes_on(upgraded: Driftloop) -> None:
    """Both versions answer as before the upgrade, and the rollout can be resumed and ended."""
    inference = upgraded("status")["endpoints"]["inference"]
    columns = (("amount", "FP32", 1.5), ("term", "FP32", 0.5), ("city", "BYTES", "Oslo"))
    inputs = [{"name": n, "datatype": d, "shape": [1, 1], "data": [v]} for n, d, v in columns]
    for version in (2, 3):
        url = f"{inference}/v2/models/loans/versions/{version}/infer"
        answer = httpx.post(url, json={"inputs": inputs}, timeout=30).raise_for_status()
        assert answer.headers["x-model-version"] == str(version)
    upgraded("rollout", "resume", "loans", "--reason", "after the upgrade")
    upgraded("rollout", "promote", "loans", "--reason", "after the upgrade")
    eventually(lambda: model(upgraded)["champion"], lambda champion: champion == 3)


def test_a_version_of_the_previous_release_is_explained(upgraded: Driftloop) -> None:
    lineage = upgraded("lineage", "loans", "2")
    assert lineage["version"] == 2
    assert lineage["data"]
