"""A stack with hundreds of models under a day's traffic in half an hour: `make bench-fleet`.

    python tests/bench/bench_fleet.py [--models 500] [--rows 100000] [--minutes 30] [--real 4]

A stack is started as by `driftloop up`, and the demo's model is deployed under so many names, as
`driftloop deploy` does. Rows of its training data are then asked in requests of `--batch` rows, at
the rate that gives each model `--rows` in `--minutes`, and each answer is labelled two seconds
later; before that, for `--real` minutes, at the rate of 100,000 rows a day for each model. Printed:
how long the deployment took and whether a model was answered throughout, what was answered late, by
role the CPU at both rates and the largest memory, how late windows are, how long `status` takes,
the files of the lake's tables, and what is lost.
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from deltalake import DeltaTable

sys.path.insert(0, str(Path(__file__).parent / "serving"))
from stack import PORTS, driftloop

from driftloop_contracts.model_archive import pack
from driftloop_demo.data_set import LABEL, TIME, LiveRows, live_rows, loans, write_reference

DAY_S = 86_400.0
A_DAY = 100_000
WARM = "warm"
LABELS_AFTER_S = 2.0
LOOK_S = 10.0
SETTLE_S = 600.0
BODIES = 256
CONNECTIONS = 8
DEPLOYERS = 2
JUDGING = ("gateway", "archiver", "monitor")


@dataclass
class Body:
    raw: bytes
    json_length: int
    labels: list[int]


def bodies(rows: LiveRows, batch: int) -> list[Body]:
    """Requests with binary tensors."""
    rng, made = np.random.default_rng(7), []
    for _ in range(BODIES):
        start = int(rng.integers(rows.drift_at - batch))
        tensors, binary = [], b""
        for tensor in rows.request(start, start + batch)["inputs"]:
            if tensor["datatype"] == "BYTES":
                texts = [text.encode() for text in tensor["data"]]
                data = b"".join(len(t).to_bytes(4, "little") + t for t in texts)
            else:
                kind = {"FP32": np.float32, "BOOL": np.bool_}[tensor["datatype"]]
                missing = np.nan if tensor["datatype"] == "FP32" else False
                values = [missing if v is None else v for v in tensor["data"]]
                data = np.array(values, kind).tobytes()
            size = {"binary_data_size": len(data)}
            tensors.append({k: v for k, v in tensor.items() if k != "data"} | {"parameters": size})
            binary += data
        head = json.dumps({"inputs": tensors, "outputs": [{"name": "label"}]}).encode()
        made.append(Body(head + binary, len(head), rows.labels[start : start + batch]))
    return made


class Wire:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> "Wire":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def post(self, path: str, body: bytes, headers: str = "") -> tuple[int, dict[str, str]]:
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        found = {}
        for line in lines:
            name, _, value = line.partition(":")
            found[name.lower()] = value.strip()
        await self._reader.readexactly(int(found.get("content-length", 0)))
        return int(first.split()[1]), found


@dataclass
class Load:
    """Asks all models in turn, and labels their answers."""

    port: int
    names: list[str]
    bodies: list[Body]
    batch: int
    rows_per_s: float
    seconds: float
    answered: int = 0
    labelled: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    behind_s: float = 0.0

    async def run(self) -> None:
        begun = time.monotonic()
        free: asyncio.Queue[Wire] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            free.put_nowait(await Wire(self.port).open())
        due: deque[tuple[float, str, list[int]]] = deque()
        asking = asyncio.create_task(self._ask(begun, free, due))
        await self._label(await Wire(self.port).open(), due, asking)
        await asking

    async def _ask(self, begun: float, free: Any, due: Any) -> None:
        every, number = self.batch / self.rows_per_s, 0
        async with asyncio.TaskGroup() as tasks:
            while (at := number * every) < self.seconds:
                now = time.monotonic() - begun
                self.behind_s = max(self.behind_s, now - at)
                if at > now:
                    await asyncio.sleep(at - now)
                wire = await free.get()
                tasks.create_task(self._one(wire, free, number, due))
                number += 1

    async def _one(self, wire: Wire, free: Any, number: int, due: Any) -> None:
        name, body = self.names[number % len(self.names)], self.bodies[number % len(self.bodies)]
        began = time.perf_counter()
        length = f"Inference-Header-Content-Length: {body.json_length}\r\n"
        status, headers = await wire.post(f"/v2/models/{name}/infer", body.raw, length)
        self.latencies_s.append(time.perf_counter() - began)
        free.put_nowait(wire)
        if status != 200:
            self.refused[status] += 1
            return
        self.answered += self.batch
        due.append((time.monotonic() + LABELS_AFTER_S, headers["x-prediction-id"], body.labels))

    async def _label(self, wire: Wire, due: Any, asking: "asyncio.Task[None]") -> None:
        while due or not asking.done():
            ready = []
            while due and due[0][0] <= time.monotonic() and len(ready) < 100:
                _, prediction, labels = due.popleft()
                ready.append({"prediction_id": prediction, "label": labels})
            if not ready:
                await asyncio.sleep(0.05)
                continue
            status, _ = await wire.post("/feedback", json.dumps(ready).encode())
            if status in (200, 202):
                self.labelled += sum(len(each["label"]) for each in ready)
            else:
                self.refused[status] += 1


class Roles:
    """CPU and memory of the stack's processes, by role; looked at every few seconds."""

    def __init__(self, root: int) -> None:
        self._root = psutil.Process(root)
        self._cpu: dict[tuple[str, int], float] = {}
        self.memory: dict[str, float] = {}

    def look(self) -> None:
        memory: Counter[str] = Counter()
        for process in [self._root, *self._root.children(recursive=True)]:
            with suppress(psutil.Error):
                role = self._role(process)
                times = process.cpu_times()
                self._cpu[role, process.pid] = times.user + times.system
                memory[role] += process.memory_full_info().pss
        for role, used in memory.items():
            self.memory[role] = max(self.memory.get(role, 0.0), used / 1e6)

    @staticmethod
    def _role(process: psutil.Process) -> str:
        words = " ".join(process.cmdline()).split()
        name = " ".join(words)
        if "role" in words:
            return words[words.index("role") + 1]
        if name.startswith("ray::ServeReplica"):
            return "replica"
        if "kafka" in name.lower() or words[:1] == ["java"]:
            return "kafka"
        return "ray" if "ray" in name else "other"

    def cpu_s(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (role, _), seconds in self._cpu.items():
            found[role] += seconds
        return found


class Looks(threading.Thread):
    """What is seen every LOOK_S seconds: the time that `status` takes, and for each window that is
    new since the last look how long ago its last row was asked."""

    def __init__(self, control: str, roles: Roles, store: Path) -> None:
        super().__init__(daemon=True)
        self._control, self._roles, self._store = control, roles, store
        self.stop = threading.Event()
        self.status_s: list[float] = []
        self.late_s: list[float] = []
        self._seen = datetime.now(UTC).isoformat()
        self._known: set[str] = set()

    def run(self) -> None:
        with httpx.Client(base_url=self._control, timeout=120.0) as http:
            while not self.stop.wait(LOOK_S):
                self._roles.look()
                began = time.perf_counter()
                http.get("/api/status").raise_for_status()
                self.status_s.append(time.perf_counter() - began)
                self._windows()

    def _windows(self) -> None:
        known = f"file:{self._store}?mode=ro"
        with closing(sqlite3.connect(known, uri=True, timeout=30)) as db:
            query = "select id, at from windows where at > ? and model != ?"
            rows = db.execute(query, (self._seen, WARM)).fetchall()
        now = datetime.now(UTC)
        for window, at in rows:
            if window not in self._known:
                self._known.add(window)
                self.late_s.append((now - datetime.fromisoformat(at)).total_seconds())


@contextmanager
def deployed(
    options: argparse.Namespace, state: Path
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    table, folder = loans(), state / "first"
    write_reference(table, state / "reference.parquet")
    words = [word for item in (*PORTS, *options.set) for word in ("--set", item)]
    up = driftloop(state, "up", "--detach", "--timeout-s", "220", *words)
    try:
        spec = driftloop(
            state, "train", str(state / "reference.parquet"), "--name", WARM, "--label", LABEL,
            "--time-column", TIME, "--drop", "id", "--output", str(folder),
            "--family", "gradient-boosting", "--set", "retrain.budget_s=0",
        )["spec"]  # fmt: skip
        driftloop(state, "deploy", spec)
        yield up, [f"m{n:03}" for n in range(options.models)]
    finally:
        driftloop(state, "down")


def deploy_all(control: str, spec: Path, names: list[str]) -> list[float]:
    def deploy(name: str) -> float:
        began = time.perf_counter()
        with tempfile.TemporaryFile() as archive:
            pack(archive, spec, {"name": name})
            archive.seek(0)
            answer = httpx.post(
                f"{control}/api/models",
                content=archive.read(),
                headers={"content-type": "application/x-tar"},
                timeout=600.0,
            )
            answer.raise_for_status()
        return time.perf_counter() - began

    with ThreadPoolExecutor(DEPLOYERS) as pool:
        return list(pool.map(deploy, names))


async def throughout(port: int, body: Body, stop: threading.Event) -> tuple[int, list[float]]:
    """Ask the model that was there before, again and again: how many were refused, and seconds."""
    wire, refused, taken = await Wire(port).open(), 0, []
    length = f"Inference-Header-Content-Length: {body.json_length}\r\n"
    while not stop.is_set():
        began = time.perf_counter()
        status, _ = await wire.post(f"/v2/models/{WARM}/infer", body.raw, length)
        taken.append(time.perf_counter() - began)
        refused += status != 200
        await asyncio.sleep(0.05)
    return refused, taken


def measure(options: argparse.Namespace, state: Path, up: dict[str, Any], names: list[str]) -> None:
    control, port = up["endpoints"]["control"], int(up["endpoints"]["inference"].rsplit(":", 1)[1])
    requests, roles = bodies(live_rows(loans()), options.batch), Roles(up["pid"])
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: asyncio.run(throughout(port, requests[0], stop)))
        try:
            began = time.monotonic()
            each = deploy_all(control, state / "first", names)
            took = time.monotonic() - began
            ready = _until_loaded(control, len(names) + 1)
        finally:
            stop.set()
        refused, taken = asked.result()
    waited = 1e3 * np.quantile(taken, 0.99)
    say(
        f"{len(names)} models were deployed in {took:.0f} s ({statistics.median(each):.2f} s each),"
        f" loaded {ready:.0f} s later; meanwhile {len(taken)} requests, {refused} refused, "
        f"{waited:.0f} ms at the 99th percentile"
    )
    roles.look()
    before = roles.cpu_s()
    say(f"idle: {_table(roles.memory, 'MB')}")
    loads = []
    if options.real:
        a_day = options.models * A_DAY / DAY_S
        real = Load(port, names, requests, options.batch, a_day, 60 * options.real)
        began = time.monotonic()
        asyncio.run(real.run())
        loads.append(real)
        _until_archived(state, real)
        roles.look()
        used, before = roles.cpu_s() - before, roles.cpu_s()
        judging = sum(used[role] for role in JUDGING) / (time.monotonic() - began)
        say(f"at the real rate, {real.answered:,} rows: {_table(used, 's')}; gateway, monitor and "
            f"archiver {judging:.2f} cores")  # fmt: skip
    load = Load(
        port, names, requests, options.batch,
        options.models * options.rows / (60 * options.minutes), 60 * options.minutes,
    )  # fmt: skip
    looks = Looks(control, roles, state / "store.db")
    looks.start()
    began = time.monotonic()
    asyncio.run(load.run())
    lasted = time.monotonic() - began
    settled = _until_archived(state, *loads, load)
    looks.stop.set()
    looks.join()
    roles.look()
    used = roles.cpu_s() - before
    ms = 1e3 * np.quantile(load.latencies_s, (0.5, 0.99))
    say(f"{load.answered:,} rows of {options.models * options.rows:,} answered in {lasted:.0f} s, "
        f"{dict(load.refused)} refused, {load.labelled:,} labelled; {ms[0]:.1f} ms at the median "
        f"and {ms[1]:.1f} at the 99th percentile; the client was at most {load.behind_s:.0f} s "
        "behind")  # fmt: skip
    asked = sum(each.answered for each in (*loads, load))
    dropped = sum(model["counts"]["dropped"] for model in _models(control))
    say(f"{asked:,} rows and as many labels in the lake {settled:.0f} s after the last: "
        f"{_in_lake(state)}, {dropped} dropped")  # fmt: skip
    say(f"CPU: {_table(used, 's')}")
    say(f"memory at most: {_table(roles.memory, 'MB')}")
    late = looks.late_s or [float("nan")]
    median, most = np.median(late), np.quantile(late, 0.99)
    say(
        f"{len(looks.late_s):,} windows, judged after {median:.0f} s at the median, {most:.0f} s "
        f"at the 99th percentile, {max(late):.0f} s at most"
    )
    took = looks.status_s
    say(f"status: {np.median(took):.2f} s at the median, {max(took):.2f} s at most")
    tables = list((state / "lake/predictions").iterdir())
    files = [len(list(table.glob("*/*.parquet"))) for table in tables]
    commits = [len(list(table.glob("_delta_log/*.json"))) for table in tables]
    say(
        f"files of a table: {np.median(files):.0f} at the median, {max(files)} at most; commits "
        f"{np.median(commits):.0f} and {max(commits)}"
    )


def say(text: str) -> None:
    print(f"- {text}", flush=True)


def _table(found: Any, unit: str) -> str:
    return ", ".join(f"{k} {v:,.0f} {unit}" for k, v in sorted(found.items(), key=lambda i: -i[1]))


def _models(control: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{control}/api/status", timeout=120.0).json()["models"])


def _until_loaded(control: str, models: int) -> float:
    began = time.monotonic()
    while sum(bool(m["loaded"]) for m in _models(control)) < models:
        time.sleep(0.5)
    return time.monotonic() - began


def _in_lake(state: Path) -> dict[str, int]:
    """By the tables' own statistics: `status` counts what is there twice, too."""
    lake = str(state / "lake/labels")
    logs = (state / "lake/predictions").glob("*/_delta_log/00000000000000000000.json")
    rows = [DeltaTable(str(log.parents[1])).count() for log in logs]
    labels = DeltaTable(lake).count() if DeltaTable.is_deltatable(lake) else 0
    return {"rows": sum(rows), "labels": labels}


def _until_archived(state: Path, *loads: Load) -> float:
    began = time.monotonic()
    answered, labelled = (sum(getattr(x, n) for x in loads) for n in ("answered", "labelled"))
    while time.monotonic() - began < SETTLE_S:
        found = _in_lake(state)
        if found["rows"] >= answered and found["labels"] >= labelled:
            break
        time.sleep(LOOK_S)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--rows", type=int, default=100_000, help="of each model")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--real", type=float, default=4.0, help="minutes at the real rate")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--set", action="append", default=["lake.flush_seconds=30"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as scratch:
        state = Path(scratch)
        with deployed(options, state) as (up, names):
            measure(options, state, up, names)


if __name__ == "__main__":
    main()
