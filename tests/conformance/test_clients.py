"""The protocol as its clients see it: each suite under `clients/` against a stack of each ingress.

A suite is a pytest run of its own: tritonclient and kserve cannot be imported into one process, nor
lie in our environment.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asked_models as models
import httpx
import pytest
from command_line import FREE_PORTS, Driftloop, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"
SUITES = sorted(path.name for path in (HERE / "clients").glob("test_*.py"))
SETTINGS = (
    # A canary that keeps half of the traffic: nothing judges it.
    "rollout.steps=[0.5]", "rollout.promote_unlabelled=false",
)  # fmt: skip


@pytest.fixture(scope="module", params=["direct", "haproxy"])
def addresses(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp(request.param)
    driftloop = Driftloop(folder / "state")
    settings = [*FREE_PORTS, *SETTINGS, f"serving.ingress={request.param}"]
    started = driftloop("up", "--detach", *(word for s in settings for word in ("--set", s)))
    try:
        _deploy(driftloop, folder)
        endpoints = started["endpoints"]
        yield {"DRIFTLOOP_HTTP": endpoints["inference"], "DRIFTLOOP_GRPC": endpoints["grpc"]}
    finally:
        driftloop("down")


def _deploy(driftloop: Driftloop, folder: Path) -> None:
    """Two versions of `scaler`, one of each other model; `alone` has a replica of its own. Returns
    when all of them answer."""
    makers = (models.identity, models.typed, models.pair, models.words)
    graphs = [make(folder) for make in makers]
    for graph in graphs:
        driftloop("deploy", str(graph), "--name", graph.stem)
    for factor in (2.0, 3.0):
        driftloop("deploy", str(models.scaler(folder, factor)), "--name", "scaler")
    spec = folder / "alone.yaml"
    options = {"onnx": {"placement": "own"}}
    spec.write_text(json.dumps({"name": "alone", "model": "pair.onnx", "options": options}))
    driftloop("deploy", str(spec))
    url = driftloop("status")["endpoints"]["inference"]
    for place in (*(g.stem for g in graphs), "scaler/versions/1", "scaler/versions/2", "alone"):
        eventually(
            lambda place=place: httpx.get(f"{url}/v2/models/{place}/ready").status_code,
            lambda status: status == 200,
        )
    eventually(
        lambda: driftloop("status")["rollouts"][0],
        lambda rollout: rollout["weight"] == 0.5,
    )


@pytest.mark.parametrize("suite", SUITES)
def test_a_client_gets_what_the_protocol_promises(addresses: dict[str, str], suite: str) -> None:
    assert PYTHON.exists(), "the clients' environment is missing: make clients"
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-c", HERE / "clients" / "pytest.ini", HERE / "clients" / suite],
        env={**os.environ, **addresses},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
