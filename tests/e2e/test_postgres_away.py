"""A stack whose store is a PostgreSQL that is away, at the start and then under traffic."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import FREE_PORTS, Driftloop, eventually
from onnx_graphs import write_graph
from postgres_server import PostgresServer

from driftloop_settings.run_state import read_run_state

pytestmark = pytest.mark.e2e
WAITING = ("gateway", "serving", "shipper", "archiver", "monitor", "retrain", "rollout")


@pytest.fixture(scope="module")
def stack(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driftloop]:
    """Started while its PostgreSQL was stopped."""
    driftloop = Driftloop(tmp_path_factory.mktemp("stack"))
    url = postgres.database("away")
    postgres.stop()
    sets = (*FREE_PORTS, "lake.flush_seconds=0.5", f"store.url={url}")
    words = [word for item in sets for word in ("--set", item)]
    argv = [sys.executable, "-m", "driftloop_cli", "up", "--detach", "--json"]
    argv += ["--state-dir", str(driftloop.state_dir), *words]
    up = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: waiting_roles(driftloop), lambda found: found == set(WAITING), 300)
        postgres.start()
        said, _ = up.communicate(timeout=300)
        assert up.returncode == 0, said
        yield driftloop
    finally:
        up.kill()
        up.wait()
        postgres.stop()
        postgres.start()
        driftloop("down")


def waiting_roles(driftloop: Driftloop) -> set[str]:
    """Those that have said that their store is away."""
    found = set()
    for role in WAITING:
        log = driftloop.state_dir / "logs" / f"{role}.log"
        if log.is_file() and "store.away" in log.read_text():
            found.add(role)
    return found


def restarts(driftloop: Driftloop) -> dict[str, int]:
    state = read_run_state(driftloop.state_dir)
    assert state is not None
    return {role.name: role.restarts for role in state.roles}


def counts(driftloop: Driftloop) -> dict[str, Any]:
    (model,) = driftloop("status")["models"]
    return dict(model["counts"])


def test_roles_wait_and_nothing_is_lost_or_doubled(
    stack: Driftloop, postgres: PostgresServer, tmp_path: Path
) -> None:
    write_graph(tmp_path, 2.0)
    stack("deploy", str(tmp_path / "model.onnx"), "--name", "scaler")
    endpoints = stack("status")["endpoints"]

    def ask(requests: int) -> None:
        inputs = [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1.0, 2.0]}]
        url = f"{endpoints['inference']}/v2/models/scaler/infer"
        for _ in range(requests):
            answer = httpx.post(url, json={"inputs": inputs}, timeout=30).raise_for_status()
            label = {"prediction_id": answer.headers["x-prediction-id"], "label": [2.0, 4.0]}
            feedback = f"{endpoints['inference']}/feedback"
            httpx.post(feedback, json=label, timeout=30).raise_for_status()

    ask(20)
    before = restarts(stack)
    postgres.stop()
    ask(20)
    away = httpx.get(f"{endpoints['control']}/api/status", timeout=30)
    assert away.status_code == 503
    assert "the store does not answer now" in away.json()["error"]
    assert "retry-after" in away.headers
    ask(20)
    postgres.start()
    ask(20)

    found = eventually(
        lambda: counts(stack),
        lambda c: c["served"] == c["acked"] == c["lake_rows"] == c["labels"] == 160,
    )
    assert found["dropped"] == found["duplicates"] == found["unexplained"] == 0
    assert restarts(stack) == before
    said = json.dumps((stack.state_dir / "logs" / "monitor.log").read_text())
    assert said.count("store.away") == said.count("store.back") == 2
