"""Real Ray Serve: what a change of the split and the death of a replica do to those who ask."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from driftloop_bus.memory_bus import MemoryBus
from driftloop_contracts.events import PREDICTIONS, TOPICS
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_onnx import signature_of
from driftloop_serving import ray_head
from driftloop_serving.shipper import Shipper
from driftloop_settings import Settings, load_settings
from driftloop_store import Store, open_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def write_version(folder: Path, number: int) -> ServedVersion:
    """A graph y = number · x."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph(
        [node], "scaler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], np.float32([number]))],
    )  # fmt: skip
    path = folder / f"v{number}"
    path.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    return ServedVersion(number, str(path), signature_of(path))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(read: Callable[[], Any], wanted: Callable[[Any], Any], timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not wanted(value := read()):
        assert time.monotonic() < deadline, value
        threading.Event().wait(0.1)  # Ray runs by itself: all we can do is look again
    return value


@dataclass(frozen=True)
class Stack:
    settings: Settings
    store: Store
    head: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.serving.port}"

    def ask(self, client: httpx.Client, rows: int = 1, **headers: str) -> httpx.Response:
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": [1.0] * rows}
        return client.post(
            f"{self.url}/v2/models/m/infer", json={"inputs": [tensor]}, headers=headers
        )

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v2/models/m/ready", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def running(self) -> list[int]:
        replicas = (self.store.cursor("replicas") or {}).get("replicas", [])
        return [r["pid"] for r in replicas if r["state"] == "running"]

    def loaded(self) -> dict[str, Any]:
        return self.store.cursor("loaded:m") or {"versions": [], "revision": 0}

    def put(self, **changes: Any) -> Deployment:
        """Change the deployment and wait until replicas serve it."""
        wanted = self.store.put_deployment(replace(self.store.require_deployment("m"), **changes))
        eventually(self.loaded, lambda found: found["revision"] == wanted.revision)
        return wanted


@contextmanager
def running_stack(state_dir: Path, ingress: str) -> Iterator[Stack]:
    """Ray and the role `serving`, each in a session of its own, with the model m at version 1."""
    ports = {"serving.port": free_port(), "serving.ray_port": free_port()}
    sets = [f"{key}={value}" for key, value in {**ports, "serving.ingress": ingress}.items()]
    settings = load_settings(sets, state_dir=state_dir, environ={})
    store = open_store(settings.store_url)
    served = write_version(state_dir, 1)
    store.put_deployment(Deployment(ModelSpec("m"), (served,), TrafficSplit(1)))
    words = [word for item in sets for word in ("--set", item)]
    roles = [
        subprocess.Popen(
            [sys.executable, "-m", "driftloop_cli", "role", name, "--state-dir", str(state_dir), *words],
            start_new_session=True,
        )
        for name in ("ray", "serving")
    ]  # fmt: skip
    stack = Stack(settings, store, roles[0].pid)
    try:
        eventually(stack.answers, bool, timeout_s=90)
        eventually(stack.running, bool)
        yield stack
    finally:
        for role in reversed(roles):
            role.terminate()
            try:
                role.wait(30)
            except subprocess.TimeoutExpired:
                role.kill()
        for pid in psutil.pids():
            if session(pid) in {role.pid for role in roles}:
                os.kill(pid, signal.SIGKILL)
        ray_head.clean(settings)
        store.close()
    assert roles[1].returncode == 0  # it shut Serve down, which drains the replicas


def session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("direct"), "direct") as stack:
        yield stack


def test_versions_and_split_change_without_a_restart(direct: Stack, tmp_path: Path) -> None:
    (pid,) = direct.running()
    broken = replace(write_version(tmp_path, 3), path=str(tmp_path / "nowhere"))
    versions = (
        direct.store.require_deployment("m").versions[0], write_version(tmp_path, 2), broken,
    )  # fmt: skip
    with httpx.Client() as client:
        direct.put(versions=versions, split=TrafficSplit(1, canary=2, weight=0.5))
        assert direct.loaded()["versions"] == [1, 2]
        assert "3" in direct.loaded()["failed"]
        arms = [direct.ask(client).headers["x-model-version"] for _ in range(60)]
        assert set(arms) == {"1", "2"}
        direct.put(split=TrafficSplit(2))
        answer = direct.ask(client)
        assert answer.json()["outputs"][0]["data"] == [2.0]
        assert answer.headers["x-model-version"] == "2"
        direct.put(versions=versions[:1], split=TrafficSplit(1))
        assert direct.ask(client).json()["outputs"][0]["data"] == [1.0]
    assert direct.running() == [pid]


def test_a_replica_killed_under_load_loses_and_doubles_nothing_it_answered(direct: Stack) -> None:
    (victim,) = direct.running()
    answered: dict[str, int] = {}
    stop = threading.Event()

    def client(number: int) -> int:
        """Counts what it was not answered; a request that failed is not sent again."""
        failures = 0
        with httpx.Client(timeout=5.0) as http:
            while not stop.is_set():
                try:
                    answer = direct.ask(http, rows=1 + number)
                except httpx.HTTPError:
                    failures += 1
                    stop.wait(0.05)
                    continue
                answer.raise_for_status()
                answered[answer.headers["x-prediction-id"]] = 1 + number
        return failures

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        try:
            eventually(lambda: len(answered), lambda count: count > 200)
            os.kill(victim, signal.SIGKILL)
            eventually(direct.running, lambda pids: pids and pids != [victim])
            before = len(answered)
            eventually(lambda: len(answered), lambda count: count > before + 200)
        finally:
            stop.set()
        assert sum(c.result() for c in clients) > 0

    bus = MemoryBus()
    bus.ensure_topics(TOPICS, partitions=1, retention_hours=1)
    shipper = Shipper(direct.settings.spool_dir, bus.producer(), direct.store, 1000)
    while shipper.step(5.0):
        pass
    shipper.write_ledger()
    consumer = bus.consumer()
    consumer.assign({(PREDICTIONS, 0): -1})
    seen: list[tuple[str, int]] = []
    while messages := consumer.poll(0.05):
        for message in messages:
            table = pa.ipc.open_stream(io.BytesIO(message.value)).read_all()
            ids, rows = table["prediction_id"].to_pylist(), table["row"].to_pylist()
            seen.extend(zip(ids, rows, strict=True))
    assert len(seen) == len(set(seen))
    assert {(i, n) for i, count in answered.items() for n in range(count)} <= set(seen)
    ledger = direct.store.ledger("m")
    assert sum(e["acked"] for e in ledger) == sum(e["served"] for e in ledger) == len(seen)


def test_nothing_listens_to_the_network(direct: Stack) -> None:
    open_to_all = [
        (process.name(), connection.laddr)
        for process in psutil.process_iter()
        if session(process.pid) == direct.head
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    ]
    assert open_to_all == []


def test_behind_serves_proxy_the_same_application_answers(tmp_path: Path) -> None:
    with running_stack(tmp_path, "haproxy") as stack, httpx.Client() as client:
        answer = stack.ask(client, rows=3, **{"x-prediction-id": "mine"})
        assert answer.json()["outputs"][0]["data"] == [1.0, 1.0, 1.0]
        assert answer.headers["x-prediction-id"] == "mine"
        assert answer.headers["x-model-version"] == "1"
        unknown = client.post(f"{stack.url}/v2/models/nobody/infer", content=b"{}")
        assert (unknown.status_code, "nobody" in unknown.json()["error"]) == (404, True)
