"""The serving bench: driftloop against baselines and peers (docs/benchmarks/serving.md).

Usage: make bench-serving [ARGS="--quick"]. In each round each subject is started afresh, alone on
the machine, and takes its part of the plan, so that a machine that slows down slows all of them.
"""

import argparse
import datetime
import json
import platform
import signal
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peers
import psutil
import report
from bench import Bench, say
from graph import write_graph
from load import require_tools
from results import Results, targets
from shadow_cost import shadow_cost
from stack import DIRECT, HAPROXY
from subjects import BARE, CAPTURED, DEFAULTS, HERE, RAY_SERVE, UNCAPTURED, Place

ROOT = HERE.parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "serving.md"
SUBJECTS = (BARE, DEFAULTS, DIRECT, HAPROXY, *peers.ALL, RAY_SERVE)


def _about(seconds: float, rounds: int) -> dict[str, Any]:
    names = ("onnxruntime", "ray", "uvicorn", "numpy")
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "python": platform.python_version(),
        "seconds": seconds,
        "rounds": rounds,
        "versions": {name: version(name) for name in names} | peers.versions(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round; the docs stay as they are")
    add("--seconds", type=float, help="of each measurement")
    add("--rounds", type=int)
    add("--shadow", action="store_true", help="only what a candidate in the shadow costs")
    add("--only", default="", help="subjects, with commas between; the docs stay as they are")
    add("--json", type=Path, default=ROOT / "build" / "bench-serving.json")
    add("--from", dest="source", type=Path, help="write the docs from this JSON, measure nothing")
    asked = parser.parse_args()
    asked.only = set(asked.only.split(",")) - {""}
    names = {subject.name for subject in (*SUBJECTS, CAPTURED)}
    if unknown := asked.only - names:
        parser.error(f"no subject {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    asked.seconds = asked.seconds or (1.0 if asked.quick else 3.0)
    asked.rounds = asked.rounds or (1 if asked.quick else 3)
    return asked


def main() -> None:
    asked = _arguments()
    if asked.source:
        report.write(Results.from_dict(json.loads(asked.source.read_text())), PAGE)
        return
    require_tools()
    if asked.shadow:
        with tempfile.TemporaryDirectory(prefix="dlb-") as scratch:
            graph = write_graph(Path(scratch))
            print(shadow_cost(graph, 5 if asked.quick else 12, asked.seconds))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    results = Results(_about(asked.seconds, asked.rounds))
    for subject in (*SUBJECTS, CAPTURED, UNCAPTURED):
        results.labels[subject.name], results.kinds[subject.name] = subject.label, subject.kind
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dlb-") as scratch:
        place = Place(write_graph(Path(scratch)), Path(scratch), ROOT / ".bench-envs")
        bench = Bench(place, results, asked.seconds, quick=asked.quick)
        for number in range(asked.rounds):
            bench.in_process()
            for subject in SUBJECTS:
                if not asked.only or subject.name in asked.only or subject is BARE:
                    bench.subject(subject, number)
                    asked.json.write_text(json.dumps(results.to_dict(), indent=1))
            if not asked.only or CAPTURED.name in asked.only:
                bench.capture(number)
            asked.json.write_text(json.dumps(results.to_dict(), indent=1))
    print(report.markdown(results))
    if not asked.quick and not asked.only:
        report.write(results, PAGE)
    missed = [target for target in targets(results) if target.reached is False]
    say(f"{len(missed)} targets missed; the numbers are in {asked.json}")


if __name__ == "__main__":
    main()
