"""Memory under load: `make soak ARGS="--minutes 60"`, or `python tests/bench/soak.py`.

A whole stack is asked at 70 % of the capacity measured at the start (`--rate` names another rate),
open loop, and a client labels some of its answers. Every ten seconds the resident (RSS) and the
proportional memory (PSS: shared pages divided among their users) of each role is read, its children
included; the replicas, engines of language models and HAProxy, which are Ray's children, count for
themselves.

After the warm-up a line is fitted to the minute means of PSS by least squares. The interval of its
slope (95 %) takes neighbouring minutes as dependent: n·(1−r)/(1+r) of n minutes count, r being the
residuals' correlation with those of the minute before. A role is `flat` when even the upper end
stays below 3 % an hour, or 5 MB where that is more; it `grows` when even the lower end does not.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from scipy import stats

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "serving"))

from graph import write_graph  # noqa: E402
from load import Sample, build_open_loop, closed_loop, open_loop, require_tools  # noqa: E402
from traffic import DISTINCT, arrays, v2_json, write_requests  # noqa: E402

SHARE_OF_CAPACITY = 0.7
SAMPLE_S, SLICE_S, LABELLED_PER_S = 10.0, 60.0, 2.0
CONNECTIONS = 32
FLAT_SHARE, FLAT_MB = 0.03, 5.0
PORTS = ("serving.port=0", "serving.grpc_port=0", "control.port=0", "kafka.port=0")
PARTS = {
    "VLLM::": "engine",
    "ray::ServeReplica:engine-": "engine-replica",
    "ray::ServeReplica": "replica",
}
"""What counts for itself, by how its process' title begins."""


@dataclass(frozen=True)
class Memory:
    """Of one role at one moment."""

    minutes: float
    rss_mb: float
    pss_mb: float


@dataclass(frozen=True)
class Growth:
    """Of one role's PSS after the warm-up; slopes in MB an hour."""

    role: str
    begin_mb: float
    end_mb: float
    rss_end_mb: float
    slope: float
    low: float
    high: float

    @property
    def limit(self) -> float:
        return max(FLAT_MB, FLAT_SHARE * self.begin_mb)

    @property
    def verdict(self) -> str:
        if self.high < self.limit:
            return "flat"
        return "grows" if self.low >= self.limit else "undecided"


def fit(role: str, samples: Sequence[Memory], warm_up_minutes: float) -> Growth:
    """Needs five minutes after the warm-up."""
    by_minute: dict[int, list[Memory]] = defaultdict(list)
    for sample in samples:
        if sample.minutes >= warm_up_minutes:
            by_minute[int(sample.minutes)].append(sample)
    hours = np.array([np.mean([s.minutes for s in group]) for group in by_minute.values()]) / 60
    pss = np.array([np.mean([s.pss_mb for s in group]) for group in by_minute.values()])
    slope, level = np.polyfit(hours, pss, 1)
    residuals = pss - (slope * hours + level)
    spread = float(residuals @ residuals)
    dependence = float(residuals[1:] @ residuals[:-1]) / spread if spread > 0 else 0.0
    dependence = min(0.95, max(0.0, dependence))
    count = max(4.0, len(pss) * (1 - dependence) / (1 + dependence))
    error = np.sqrt(spread / (len(pss) - 2) / (np.var(hours) * count))
    reach = float(error * stats.t.ppf(0.975, count - 2))
    return Growth(
        role,
        float(level + slope * hours[0]),
        float(level + slope * hours[-1]),
        samples[-1].rss_mb,
        float(slope),
        float(slope - reach),
        float(slope + reach),
    )


def memory_by_role(state_dir: Path) -> dict[str, tuple[float, float]]:
    """RSS and PSS in MB of all that a role runs."""
    found: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for name, process in processes(state_dir):
        try:
            rss, pss = _memory(process.pid)
        except OSError:
            continue
        found[name] = found[name][0] + rss, found[name][1] + pss
    return dict(found)


def processes(state_dir: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Each process of the stack, with the role that it counts for."""
    document = json.loads((state_dir / "run" / "supervisor.json").read_text())
    leaders = {role["name"]: role["pid"] for role in document["roles"] if role["pid"]}
    leaders["supervisor"] = document["supervisor"]["pid"]
    for role, leader in leaders.items():
        for process in _family(leader, alone=role == "supervisor"):
            try:
                name = _part(process) or role
            except psutil.Error:
                continue
            yield name, process


def _family(leader: int, alone: bool) -> list[psutil.Process]:
    """None while the role is being restarted."""
    try:
        process = psutil.Process(leader)
        return [process] if alone else [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _part(process: psutil.Process) -> str | None:
    if process.name() == "haproxy":
        return "haproxy"
    title = "".join(process.cmdline()[:1])
    return next((part for begins, part in PARTS.items() if title.startswith(begins)), None)


def _memory(pid: int) -> tuple[float, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024


def driftloop(state_dir: Path, *words: str) -> Any:
    argv = [sys.executable, "-m", "driftloop_cli", *words, "--state-dir", str(state_dir), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"driftloop {words[0]}: {done.stdout[-800:]}{done.stderr[-800:]}")
    return json.loads(done.stdout)


@contextmanager
def stack(state_dir: Path) -> Iterator[int]:
    """A stack that serves the model `m`; gives its port."""
    sets = [word for port in PORTS for word in ("--set", port)]
    up = driftloop(state_dir, "up", "--detach", "--timeout-s", "240", *sets)
    try:
        driftloop(state_dir, "deploy", str(write_graph(state_dir / "graph")), "--name", "m")
        yield int(up["endpoints"]["inference"].rpartition(":")[2])
    finally:
        driftloop(state_dir, "down")


def label_some(port: int, body: bytes, stop: threading.Event) -> None:
    """A client that keeps its connection, and labels what it was answered."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        while not stop.wait(1 / LABELLED_PER_S):
            try:
                answer = client.post("/v2/models/m/infer", content=body)
                label = {"prediction_id": answer.headers["x-prediction-id"], "label": 1}
                client.post("/feedback", json=label)
            except (httpx.HTTPError, KeyError) as error:
                print(f"the labelling client: {error!r}", file=sys.stderr)


def sample(
    state_dir: Path, began: float, series: Mapping[str, list[Memory]], stop: threading.Event
) -> None:
    while not stop.wait(SAMPLE_S):
        minutes = (time.monotonic() - began) / 60
        for role, (rss, pss) in memory_by_role(state_dir).items():
            series[role].append(Memory(minutes, rss, pss))


def table(growths: Sequence[Growth]) -> str:
    lines = [
        "| role | PSS after the warm-up, MB | at the end | RSS at the end | MB an hour (95 %) | "
        "verdict |",
        "|---|---|---|---|---|---|",
    ]
    for g in growths:
        lines.append(
            f"| {g.role} | {g.begin_mb:.0f} | {g.end_mb:.0f} | {g.rss_end_mb:.0f} "
            f"| {g.slope:+.1f} ({g.low:+.1f} to {g.high:+.1f}) | {g.verdict} |"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Run:
    """What a soak saw. `counts`: the model's at the end, as `driftloop status` gives them."""

    capacity: float
    rate: float
    slices: Sequence[Sample]
    series: Mapping[str, Sequence[Memory]]
    counts: Mapping[str, Any]


def soak(folder: Path, minutes: float, rate: float | None, samples: Path) -> Run:
    """Ask a stack under `folder` for so long; ctrl-C ends it early, with what there is. What was
    seen is also written to `samples`."""
    program = build_open_loop(folder)
    bodies = [v2_json(array) for array in arrays([1] * DISTINCT)]
    requests = write_requests(folder / "requests", bodies)
    state_dir = folder / "state"
    series: dict[str, list[Memory]] = defaultdict(list)
    slices: list[Sample] = []
    with stack(state_dir) as port:
        # Long enough for Kafka, the archiver and the monitor to take their share.
        closed_loop(port, requests, 16, 20)
        capacity = closed_loop(port, requests, 16, 60).rate
        rate = rate or SHARE_OF_CAPACITY * capacity
        print(f"capacity {capacity:,.0f} requests/s; asking {rate:,.0f}", flush=True)
        stop, began = threading.Event(), time.monotonic()
        watchers = [
            threading.Thread(target=sample, args=(state_dir, began, series, stop)),
            threading.Thread(target=label_some, args=(port, bodies[0].body, stop)),
        ]
        for watcher in watchers:
            watcher.start()
        try:
            while (elapsed := time.monotonic() - began) < minutes * 60:
                slices.append(open_loop(program, port, requests, CONNECTIONS, rate, SLICE_S))
                _say(elapsed / 60, slices[-1], series)
        except KeyboardInterrupt:
            print("stopped early: the table is of what there is", file=sys.stderr)
        finally:
            stop.set()
            for watcher in watchers:
                watcher.join()
        run = Run(capacity, rate, slices, dict(series), {})
        samples.write_text(json.dumps(asdict(run)))
        counts = driftloop(state_dir, "status")["models"][0]["counts"]
    return replace(run, counts=counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the load lasts")
    parser.add_argument("--warm-up-minutes", type=float, default=10.0, help="not judged")
    parser.add_argument(
        "--rate", type=float, help="requests a second, instead of 70 %% of capacity"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here")
    asked = parser.parse_args()
    if asked.minutes - asked.warm_up_minutes < 5:
        raise SystemExit("nothing can be said of less than five minutes after the warm-up")
    require_tools()
    folder = Path(tempfile.mkdtemp(prefix="dl-soak-"))
    samples = asked.json or folder / "samples.json"
    samples.parent.mkdir(parents=True, exist_ok=True)
    try:
        run = soak(folder, asked.minutes, asked.rate, samples)
    except BaseException:
        print(f"what the stack wrote is kept in {folder}", file=sys.stderr)
        raise
    samples.write_text(json.dumps(asdict(run)))
    shutil.rmtree(folder)
    growths = [fit(role, run.series[role], asked.warm_up_minutes) for role in sorted(run.series)]
    print(
        f"\n{sum(s.requests for s in run.slices):,} answers at {run.rate:,.0f}/s, "
        f"failed {sum(s.failed for s in run.slices)}, "
        f"unanswered {sum(s.broken for s in run.slices)}, "
        f"dropped from capture {run.counts['dropped']}, "
        f"twice in the lake {run.counts['duplicates']}\n\n{table(growths)}"
    )
    if any(g.verdict == "grows" for g in growths):
        raise SystemExit(1)


def _say(minutes: float, load: Sample, series: Mapping[str, list[Memory]]) -> None:
    now = ", ".join(f"{role} {s[-1].pss_mb:.0f}" for role, s in sorted(series.items()) if s)
    print(
        f"{minutes:5.1f} min: {load.rate:,.0f}/s, p99 {load.p99_us / 1000:.1f} ms, "
        f"failed {load.failed}, unanswered {load.broken}; PSS MB: {now}",
        flush=True,
    )


if __name__ == "__main__":
    main()
