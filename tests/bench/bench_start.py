"""What a stack costs before anybody asks it anything: `make bench-start`.

An empty stack with the default settings (ports of its own) is started, looked at as soon as it can
answer a prediction, and again `IDLE_S` later. CPU seconds are those of all its processes, memory is
their proportional set size. Times are ratios to an import that is measured beside them, since the
machines differ: `import ray.serve` for the start, `import pandas` for short commands. Those are
whole commands that ask the running stack: their own CPU time, which other work on the machine
disturbs least, and the time that a person waits.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import psutil
from onnx import TensorProto, helper

IDLE_S = 30.0
PORTS = ("serving.port=0", "serving.grpc_port=0", "control.port=0", "kafka.port=0")
ROUNDS = 5
SHORT = ("status", "labels bench", "alerts list", "rollout status", "logs", "deploy {folder}")


class Taken(NamedTuple):
    """Seconds: the median that passed, and the least CPU time (user and system)."""

    wall: float
    cpu: float


def taken(argv: list[str]) -> Taken:
    """Of `ROUNDS`, after one that compiles and fills the caches."""
    walls, cpus = [], []
    for _ in range(ROUNDS + 1):
        begun, before = time.monotonic(), os.times()
        subprocess.run(argv, check=True, capture_output=True)
        after = os.times()
        walls.append(time.monotonic() - begun)
        cpus.append(sum(after[2:4]) - sum(before[2:4]))
    return Taken(statistics.median(walls[1:]), min(cpus[1:]))


def importing(module: str) -> Taken:
    return taken([sys.executable, "-c", f"import {module}"])


def write_model(folder: Path) -> None:
    """Write a graph that doubles a number, and its `model.yaml`."""
    vector = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 1]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "g", *([v] for v in vector)
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    (folder / "model.yaml").write_text("name: bench\nmodel: model.onnx\n")


def ask(endpoint: str, rows: int) -> None:
    """Have the model answer, so that the lake has rows."""
    given = {"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": [1.0] * rows}
    request = urllib.request.Request(
        f"{endpoint}/v2/models/bench/infer",
        json.dumps({"inputs": [given]}).encode(),
        {"content-type": "application/json"},
    )
    urllib.request.urlopen(request).close()


def short_commands(command: list[str], where: list[str], folder: Path) -> dict[str, Taken]:
    """Measure them with a model that is deployed and has rows in the lake."""

    def status() -> Any:
        said = subprocess.run(
            [*command, "status", "--json", *where], check=True, capture_output=True
        ).stdout
        return json.loads(said)

    write_model(folder)
    deploy = [*command, "deploy", str(folder), "--at-once", *where]
    subprocess.run(deploy, check=True, capture_output=True)
    ask(status()["endpoints"]["inference"], 100)
    while not status()["models"][0]["counts"]["lake_rows"]:
        time.sleep(0.5)
    return {
        words: taken(
            [*command, *words.format(folder=folder).split(), *where]
            + (["--at-once"] if words.startswith("deploy") else [])
        )
        for words in SHORT
    }


def family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """Of those that live and of the ended ones that they waited for."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mb(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return process.memory_full_info().pss / 1e6
    return 0.0


def main() -> None:
    ray_s, pandas = importing("ray.serve").wall, importing("pandas")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "driftloop_cli"]
        where = ["--state-dir", folder]
        sets = [word for port in PORTS for word in ("--set", port)]
        begun = time.monotonic()
        with (Path(folder) / "up.log").open("w") as log:
            up = subprocess.Popen([*command, "up", *where, *sets], stdout=log, stderr=log)
        try:
            while "ready after" not in (Path(folder) / "up.log").read_text():
                if up.poll() is not None:
                    sys.exit((Path(folder) / "up.log").read_text())
                time.sleep(0.1)
            start_s, start_cpu_s = time.monotonic() - begun, cpu_s(family(up.pid))
            time.sleep(IDLE_S)
            processes = family(up.pid)
            memory = sorted(((memory_mb(p), p) for p in processes), key=lambda m: -m[0])
            idle_cpu_s = cpu_s(processes)
            rows = [
                (m, cpu_s([p]), " ".join(p.cmdline())[:70]) for m, p in memory if p.is_running()
            ]
            short = short_commands(command, where, Path(folder) / "model")
        finally:
            up.terminate()
            up.wait()
    print(f"import ray.serve {ray_s:.1f} s, import pandas {pandas.wall:.2f} s")
    print(f"ready after {start_s:.1f} s: {start_s / ray_s:.1f} x import ray.serve")
    print(f"CPU until ready {start_cpu_s:.0f} s, {IDLE_S:.0f} s later {idle_cpu_s:.0f} s")
    print(f"memory (PSS) {sum(m for m, _, _ in rows) / 1000:.2f} GB")
    for megabytes, used, name in rows:
        print(f"  {megabytes:5.0f} MB {used:5.1f} s  {name}")
    for words, used in short.items():
        print(
            f"{words.split()[0]}: {used.cpu / pandas.cpu:.2f} x import pandas in CPU time "
            f"({used.cpu:.2f} s), {used.wall / pandas.wall:.2f} x in time ({used.wall:.2f} s)"
        )
    print(f"--help: {taken([*command, '--help']).wall:.2f} s")


if __name__ == "__main__":
    main()
