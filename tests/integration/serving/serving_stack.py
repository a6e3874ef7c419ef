"""Real Ray and the real role `serving`, and the owner of their ports, without the rest of a
stack."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.replica import LoadedVersions
from driftloop_gateway.removal import await_unloaded, remove
from driftloop_onnx import signature_of
from driftloop_serving.cluster import ray_head
from driftloop_serving.cluster.driver import ANSWERING
from driftloop_serving.inference.grpc_protocol import open_inference_pb2
from driftloop_serving.ports.port_owner import own_ports
from driftloop_settings import Settings, load_settings
from driftloop_settings.ports import free_port
from driftloop_store import Store, open_store


def write_version(folder: Path, number: int) -> ServedVersion:
    """A graph y = number · x."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph(
        [node],
        "scaler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], np.array([number], np.float32))],
    )
    path = folder / f"v{number}"
    path.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    return ServedVersion(number, str(path), signature_of(path))


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
    roles: "dict[str, subprocess.Popen[bytes]]"
    words: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.serving.port}"

    def ask(
        self, client: httpx.Client, rows: int = 1, model: str = "m", **headers: str
    ) -> httpx.Response:
        tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": [1.0] * rows}
        return client.post(
            f"{self.url}/v2/models/{model}/infer", json={"inputs": [tensor]}, headers=headers
        )

    def start(self, role: str, *sets: str) -> None:
        """Start a role in a session of its own; `sets` come on top of the stack's settings."""
        words = [*self.words, *(word for item in sets for word in ("--set", item))]
        argv = [sys.executable, "-m", "driftloop_cli", "role", role, *words]
        self.roles[role] = subprocess.Popen(argv, start_new_session=True)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v2/models/m/ready", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def answering(self) -> list[int]:
        """The process ids of the replicas."""
        replicas = self.store.replica_statuses().replicas
        return [r.pid for r in replicas if r.pid is not None and r.state in ANSWERING]

    def loaded(self) -> LoadedVersions:
        return self.store.loaded_versions("m")

    def statuses_just_after_a_removal(self, folder: Path) -> list[int]:
        """Serve another model and remove it. Returns the statuses of all that ask for it then, on
        connections that were open and on new ones."""
        version, ready = write_version(folder, 1), f"{self.url}/v2/models/gone/ready"
        inputs = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
        self.store.put_deployment(Deployment(ModelSpec("gone"), (version,), TrafficSplit(1)))
        with httpx.Client() as kept:
            eventually(lambda: kept.get(ready).status_code, lambda status: status == 200)
            remove(self.store, "gone", datetime.now(UTC), None)
            assert await_unloaded(self.store, "gone", patience_s=15.0)
            asked = [client.get(ready) for client in (kept, httpx) for _ in range(20)]
            asked.append(kept.post(f"{self.url}/v2/models/gone/infer", json=inputs))
        address = f"127.0.0.1:{self.settings.serving.grpc_port}"
        with grpc.insecure_channel(address) as channel:
            asking = open_inference_pb2.ModelReadyRequest(name="gone").SerializeToString()
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
            answer = open_inference_pb2.ModelReadyResponse.FromString(call(asking, timeout=10.0))
        return [response.status_code for response in asked] + [200 if answer.ready else 404]

    def put(self, **changes: Any) -> Deployment:
        """Change the deployment and wait until replicas serve it."""
        wanted = self.store.put_deployment(replace(self.store.require_deployment("m"), **changes))
        eventually(self.loaded, lambda found: found.revision == wanted.revision)
        return wanted


@contextmanager
def running_stack(state_dir: Path, *sets: str) -> Iterator[Stack]:
    """Ray and the role `serving` with the settings `sets`, and the model m at version 1."""
    ports = [f"serving.{name}={free_port()}" for name in ("port", "grpc_port", "ray_port")]
    settings = load_settings([*ports, *sets], state_dir=state_dir, environ={})
    store = open_store(settings.store_url)
    served = write_version(state_dir, 1)
    store.put_deployment(Deployment(ModelSpec("m"), (served,), TrafficSplit(1)))
    words = [word for item in (*ports, *sets) for word in ("--set", item)]
    stack = Stack(settings, store, {}, ["--state-dir", str(state_dir), *words])
    owner = own_ports(settings)
    assert owner is not None
    try:
        for role in ("ray", "serving"):
            stack.start(role)
        eventually(stack.answers, bool, timeout_s=120)
        eventually(lambda: len(stack.answering()), lambda count: count >= settings.serving.replicas)
        yield stack
    finally:
        for role in ("serving", "ray"):
            end(stack.roles[role])
        for pid in psutil.pids():
            if session(pid) in {role.pid for role in stack.roles.values()}:
                os.kill(pid, signal.SIGKILL)
        ray_head.clean(settings)
        owner.close()
        store.close()
    # It shut Serve down, which drains the replicas.
    assert stack.roles["serving"].returncode == 0


def end(role: "subprocess.Popen[bytes]") -> None:
    role.terminate()
    try:
        role.wait(40)
    except subprocess.TimeoutExpired:
        role.kill()


def session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1
