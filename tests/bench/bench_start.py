"""What a stack costs before anybody asks it anything: `make bench-start`.

An empty stack with the default settings (ports of its own) is started, looked at as soon as it can
answer a prediction, and again `IDLE_S` later. CPU seconds are those of all its processes, memory is
their proportional set size. Times are ratios to an import that is measured beside them, since the
machines differ: `import ray.serve` for the start, `import pandas` for short commands.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

IDLE_S = 30.0
PORTS = ("serving.port=0", "serving.grpc_port=0", "control.port=0", "kafka.port=0")
ROUNDS = 3
SHORT = ("status", "deploy --help", "labels --help")


def seconds(argv: list[str]) -> float:
    """Wall clock, the median of `ROUNDS`, after one run that compiles and fills the caches."""
    taken = []
    for _ in range(ROUNDS + 1):
        begun = time.monotonic()
        subprocess.run(argv, check=True, capture_output=True)
        taken.append(time.monotonic() - begun)
    return statistics.median(taken[1:])


def importing(module: str) -> float:
    return seconds([sys.executable, "-c", f"import {module}"])


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
    ray_s, pandas_s = importing("ray.serve"), importing("pandas")
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
            short = {words: seconds([*command, *words.split(), *where]) for words in SHORT}
        finally:
            up.terminate()
            up.wait()
    print(f"import ray.serve {ray_s:.1f} s, import pandas {pandas_s:.2f} s")
    print(f"ready after {start_s:.1f} s: {start_s / ray_s:.1f} x import ray.serve")
    print(f"CPU until ready {start_cpu_s:.0f} s, {IDLE_S:.0f} s later {idle_cpu_s:.0f} s")
    print(f"memory (PSS) {sum(m for m, _, _ in rows) / 1000:.2f} GB")
    for megabytes, used, name in rows:
        print(f"  {megabytes:5.0f} MB {used:5.1f} s  {name}")
    for words, taken in short.items():
        print(f"{words}: {taken:.2f} s, {taken / pandas_s:.2f} x import pandas")
    print(f"--help: {seconds([*command, '--help']):.2f} s")


if __name__ == "__main__":
    main()
