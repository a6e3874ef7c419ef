"""Real Ray Serve behind its HAProxy: the same protocol, a replica's death, a model with its own replicas."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving_stack import Stack, eventually, running_stack, write_version

from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("proxied"), "serving.ingress=haproxy") as stack:
        yield stack


def test_behind_haproxy_the_same_protocol_answers(proxied: Stack) -> None:
    with httpx.Client() as client:
        answer = proxied.ask(client, rows=3, **{"x-prediction-id": "mine"})
        assert answer.json()["outputs"][0]["data"] == [1.0, 1.0, 1.0]
        assert answer.headers["x-prediction-id"] == "mine"
        assert answer.headers["x-model-version"] == "1"
        unknown = client.post(f"{proxied.url}/v2/models/nobody/infer", content=b"{}")
        assert (unknown.status_code, "nobody" in unknown.json()["error"]) == (404, True)
        encoded = client.get(f"{proxied.url}/v2/models/%6d")
        assert encoded.json()["name"] == "m"


def test_behind_haproxy_requests_wait_until_a_killed_replica_is_replaced(proxied: Stack) -> None:
    before = proxied.running()
    victim = shared_replica(proxied)
    os.kill(victim, signal.SIGKILL)
    with httpx.Client(timeout=60.0) as client:
        assert [proxied.ask(client).status_code for _ in range(5)] == [200] * 5
    eventually(proxied.running, lambda pids: len(pids) == len(before) and victim not in pids)
    rows = (proxied.store.cursor("replicas") or {})["replicas"]
    assert {row["restarts"] for row in rows} == {1}


def shared_replica(stack: Stack) -> int:
    """The one that holds `m`; a model of its own may have others."""
    (pid,) = [
        pid
        for pid in stack.running()
        if "m" in (stack.store.cursor(f"replica:{pid}") or {})["models"]
    ]
    return pid


def test_a_model_of_its_own_answers_through_the_same_port(proxied: Stack, tmp_path: Path) -> None:
    stack = proxied
    with httpx.Client() as client:
        shared = stack.running()
        spec = ModelSpec("alone", options={"onnx": {"placement": "own", "cpus": 0.1}})
        version = write_version(tmp_path / "alone", 3)
        wanted = stack.store.put_deployment(Deployment(spec, (version,), TrafficSplit(3)))

        def revision() -> int:
            loaded = stack.store.cursor("loaded:alone") or {"revision": 0}
            return int(loaded["revision"])

        eventually(revision, lambda found: found == wanted.revision)
        ready = f"{stack.url}/v2/models/alone/ready"
        eventually(lambda: client.get(ready).status_code, lambda status: status == 200)
        assert len(stack.running()) == len(shared) + 1
        answer = stack.ask(client, rows=2, model="alone", **{"x-prediction-id": "mine"})
        assert answer.json()["outputs"][0]["data"] == [3.0, 3.0]
        assert answer.headers["x-model-version"] == "3"
        assert answer.headers["x-prediction-id"] == "mine"
        wrong = client.post(f"{stack.url}/v2/models/alone/infer", content=b"{")
        assert (wrong.status_code, "JSON" in wrong.json()["error"]) == (400, True)
        missing = client.post(f"{stack.url}/v2/models/alone/versions/9/infer", content=b"{}")
        assert (missing.status_code, "alone" in missing.json()["error"]) == (404, True)
        folders = {path.name.split("-")[0] for path in stack.settings.spool_dir.iterdir()}
        assert folders == {"replica", "own"}
        assert stack.ask(client).headers["x-model-version"] == "1"
