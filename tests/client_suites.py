"""The protocol as other people's clients see it: each suite under `conformance/clients/`, against a
running stack.

A suite is a pytest run of its own: tritonclient and kserve cannot be imported into one process, nor
lie in our environment.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import asked_models as models
import httpx
from command_line import Driftloop, eventually

CLIENTS = Path(__file__).parent / "conformance" / "clients"
PYTHON = Path(__file__).parents[1] / ".venv-clients" / "bin" / "python"
SUITES = sorted(path.name for path in CLIENTS.glob("test_*.py"))
STEADY_CANARY = {"rollout": {"shadow_share": 0, "steps": [0.5], "promote_unlabelled": False}}
"""A canary that has half of the traffic at once and keeps it: nothing judges it."""


def deploy_asked_models(driftloop: Driftloop, folder: Path) -> None:
    """Two versions of `scaler`, one of each other model; `alone` has a replica of its own. Returns
    when all of them answer."""
    folder.mkdir()
    makers = (models.identity, models.typed, models.pair, models.words)
    graphs = [make(folder) for make in makers]
    for graph in graphs:
        driftloop("deploy", str(graph), "--name", graph.stem)

    def deploy(name: str, graph: Path, **spec: Any) -> None:
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, "model": graph.name, **spec}))
        driftloop("deploy", str(path))

    for factor in (2.0, 3.0):
        deploy("scaler", models.scaler(folder, factor), policy=STEADY_CANARY)
    deploy("alone", folder / "pair.onnx", options={"onnx": {"placement": "own"}})
    url = driftloop("status")["endpoints"]["inference"]
    for place in (*(g.stem for g in graphs), "scaler/versions/1", "scaler/versions/2", "alone"):
        eventually(
            lambda place=place: httpx.get(f"{url}/v2/models/{place}/ready").status_code,
            lambda status: status == 200,
        )
    eventually(
        lambda: driftloop("status")["rollouts"],
        lambda rollouts: any(r["model"] == "scaler" and r["weight"] == 0.5 for r in rollouts),
    )


def ask_as(suite: str, driftloop: Driftloop) -> None:
    """Run one suite against the models of `deploy_asked_models`; it passes, or says why not."""
    assert PYTHON.exists(), "the clients' environment is missing: make clients"
    endpoints = driftloop("status")["endpoints"]
    addresses = {"DRIFTLOOP_HTTP": endpoints["inference"], "DRIFTLOOP_GRPC": endpoints["grpc"]}
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-c", CLIENTS / "pytest.ini", CLIENTS / suite],
        env={**os.environ, **addresses},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
