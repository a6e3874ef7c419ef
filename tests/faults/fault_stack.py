"""A stack as `driftloop up` starts it, and the harm that is done to it: only by signals to its
processes and by what lies on its disks."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import psutil
from command_line import FREE_PORTS, Driftloop
from onnx import TensorProto, helper

MODEL = "m"
BACK_S = 120.0


def write_graph(path: Path) -> Path:
    """y = 2 · x over one FP32 column."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scaler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], np.float32([2.0]))],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


class FaultStack:
    """`driftloop`: the command against it. Processes are found as an operator finds them."""

    def __init__(self, driftloop: Driftloop, inference: str) -> None:
        self.driftloop = driftloop
        self.state_dir = driftloop.state_dir
        self.inference = inference

    @property
    def kafka(self) -> str:
        return str(self._run()["endpoints"]["kafka"])

    def pid(self, role: str) -> int | None:
        """None while it is being restarted. `replica`: the one that has lived longest."""
        pids = self.pids(role)
        return pids[0] if pids else None

    def pids(self, role: str) -> list[int]:
        if role != "replica":
            return [r["pid"] for r in self._run()["roles"] if r["name"] == role and r["pid"]]
        ray = self.pid("ray")
        family = psutil.Process(ray).children(recursive=True) if ray else []
        return [p.pid for p in sorted(family, key=lambda p: p.create_time()) if _is_replica(p)]

    def age_s(self, role: str) -> float:
        """For how long it has run; 0 while it is being restarted."""
        pid = self.pid(role)
        try:
            return time.time() - psutil.Process(pid).create_time() if pid else 0.0
        except psutil.NoSuchProcess:
            return 0.0

    def kill(self, role: str) -> int | None:
        """Kill -9 it now; its pid, or None where it was away already."""
        pid = self.pid(role)
        if pid is None:
            return None
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return pid

    @contextmanager
    def stopped(self, role: str) -> Iterator[int]:
        """While the block runs the role hangs: it holds its connections and locks and does
        nothing."""
        pid = self.await_pid(role)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGCONT)

    def await_pid(self, role: str, other_than: int | None = None) -> int:
        """Its pid as soon as it runs (again)."""
        found = until(
            lambda: next((p for p in self.pids(role) if p != other_than), None), f"no {role} came"
        )
        assert found is not None
        return found

    def _run(self) -> dict:
        return json.loads((self.state_dir / "run" / "supervisor.json").read_text())


def until(
    look: Callable[[], object], otherwise: str, seconds: float = BACK_S, every_s: float = 0.05
):
    """What `look` gives as soon as that is something; fails with `otherwise` after so long."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(every_s)
    return found


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "".join(process.cmdline()[:1]).startswith("ray::ServeReplica")
    except psutil.Error:
        return False


@contextmanager
def fault_stack(
    state_dir: Path, *sets: str, environment: dict[str, str] | None = None
) -> Iterator[FaultStack]:
    """A stack that serves MODEL. Its logs are kept with the state directory."""
    driftloop = Driftloop(state_dir)
    words = [
        word for item in (*FREE_PORTS, "lake.flush_seconds=0.5", *sets) for word in ("--set", item)
    ]
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        up = driftloop("up", "--detach", "--timeout-s", "600", *words, timeout=660)
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        graph = write_graph(state_dir / "scaler.onnx")
        driftloop("deploy", str(graph), "--name", MODEL)
        yield FaultStack(driftloop, up["endpoints"]["inference"])
    finally:
        driftloop("down", timeout=300)
