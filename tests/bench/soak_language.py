"""An hour of mixed calls to a language model, with clients that leave: `make soak-llm`, or
`python tests/bench/soak_language.py [--model FOLDER | --tiny] [--minutes 60] [--clients 6]`.

A whole stack is asked by clients that each make one call after another, of the kinds in
`language_clients`. Each minute has a line: calls, failures and the memory of each role, which is
judged as `soak.py` says. When the load has stopped,

- no call may be under way in an engine (`/metrics`), and the engine's process must be at rest. vLLM
  tells
  nobody how many requests it holds; but its loop only blocks when it holds none, waiting ones
  included;
- the lake must have, exactly once, every answer that came whole and every stream that was left, and
  no more
  ids that no client knows than there were calls left before their id was known.

Ctrl-C ends the load early, a second one everything. vLLM sets its key-value cache of 1 GB apart at
the start, and it becomes resident as it is first used: 4,000 calls of the tiny model, some hundred
of a real one, which the warm-up must cover.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_llm import wanted_model
from command_line import FREE_PORTS, Driftloop
from language_clients import CONTEXT, Kind, Seen, client
from soak import Growth, Memory, fit, processes, sample, table

NAME = "soak"
START_S = 1_800
OPTIONS = {"engine": {"max_model_len": CONTEXT}}
REST_S, LOOK_S = 60.0, 3.0
REST_SHARE = 0.05
"""Of a core. An engine that holds a request looks at it a thousand times a second."""
SETTLE_S, SETTLE_LOOK_S = 600.0, 15.0
"""An answer that was left is kept back from capture for 10 s, for a second try."""
FITTED_MINUTES = 5
FINISHED = frozenset(("stop", "length"))
IN_FLIGHT = re.compile(r'^driftloop_requests_in_flight\{replica="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Captured:
    """One row in the lake."""

    prediction_id: str
    row: int
    finish_reason: str | None


@dataclass(frozen=True)
class Books:
    """The lake against what clients saw, in ids. `odd`: finished as their client did not see it;
    `strangers`: how many no client knows."""

    rows: int
    missing: Sequence[str]
    twice: Sequence[str]
    odd: Sequence[str]
    strangers: int


def compare(seen: Seen, captured: Sequence[Captured]) -> Books:
    rows: Mapping[str, list[Captured]] = defaultdict(list)
    for each in captured:
        rows[each.prediction_id].append(each)
    expected = {**dict.fromkeys(seen.left, 1), **seen.complete}
    wanted = {i: {"abort", *FINISHED} for i in seen.left} | dict.fromkeys(seen.complete, FINISHED)
    return Books(
        len(captured),
        [i for i, count in expected.items() if len({r.row for r in rows.get(i, ())}) < count],
        [
            i
            for i, found in rows.items()
            if len(found) > expected.get(i, len({r.row for r in found}))
        ],
        [
            i
            for i, reasons in wanted.items()
            if any(r.finish_reason not in reasons for r in rows.get(i, ()))
        ],
        len(rows.keys() - expected.keys()),
    )


@dataclass(frozen=True)
class Rest:
    """After the load. `in_flight`: calls under way, by replica; `engine_share`: of a core."""

    after_s: float
    in_flight: Mapping[str, float]
    engine_share: float

    @property
    def reached(self) -> bool:
        of_engines = [name for name in self.in_flight if name.startswith("engine-")]
        return bool(of_engines) and not self.leaked and self.engine_share < REST_SHARE

    @property
    def leaked(self) -> int:
        return int(sum(self.in_flight.values()))


def in_flight(metrics: str) -> dict[str, float]:
    return {replica: float(number) for replica, number in IN_FLIGHT.findall(metrics)}


@dataclass
class Run:
    """`counts`: the model's at the end, and `restarts` under load by role, as `driftloop status`
    gives them."""

    seen: Seen = field(default_factory=Seen)
    series: dict[str, list[Memory]] = field(default_factory=lambda: defaultdict(list))
    rest: Rest | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    books: Books | None = None


def faults(run: Run, growths: Sequence[Growth]) -> list[str]:
    """What this run must not have had, in sentences."""
    seen, rest, books, counts = run.seen, run.rest, run.books, run.counts
    assert rest is not None
    assert books is not None
    unknown = seen.unseen + seen.failures.total()
    found = {
        f"{rest.leaked} calls leaked": rest.leaked > 0,
        f"the engine is not at rest ({rest.engine_share:.1%} of a core)": not rest.reached,
        f"{seen.failures.total()} calls failed": bool(seen.failures),
        f"{len(books.missing)} answers are missing": bool(books.missing),
        f"{len(books.twice)} answers are there twice": bool(books.twice),
        f"{len(books.odd)} answers finished otherwise": bool(books.odd),
        f"{books.strangers} answers that no client knows, of {unknown} possible": books.strangers
        > unknown,
        f"{counts['dropped']} rows were dropped": counts["dropped"] > 0,
        f"{counts['unexplained']} rows are unexplained": counts["unexplained"] > 0,
        f"{counts['duplicates']} duplicates": counts["duplicates"] > 0,
        f"{counts['labels']} labels of {len(seen.rated)} ratings": counts["labels"]
        != len(seen.rated),
        f"restarts: {run.restarts}": bool(run.restarts),
    }
    grown = [f"{growth.role} grows" for growth in growths if growth.verdict == "grows"]
    return [fault for fault, is_so in found.items() if is_so] + grown


def judged(
    series: Mapping[str, Sequence[Memory]], warm_up_minutes: float
) -> tuple[list[Growth], list[str]]:
    """The growths, and the roles that were there for too short a time."""
    long, short = [], []
    for role in sorted(series):
        minutes = {int(s.minutes) for s in series[role] if s.minutes >= warm_up_minutes}
        (long if len(minutes) >= FITTED_MINUTES else short).append(role)
    return [fit(role, series[role], warm_up_minutes) for role in long], short


@contextmanager
def stack(command: Driftloop, model: Path) -> Iterator[str]:
    """A stack that serves the model under NAME; gives the address of its inference."""
    sets = [word for each in FREE_PORTS for word in ("--set", each)]
    spec = command.state_dir.with_name("soak.yaml")
    told = {"name": NAME, "runtime": "vllm", "model": str(model), "options": OPTIONS}
    spec.write_text(json.dumps({**told, "task": "generation", "output": "text"}))
    try:
        command("up", "--detach", "--timeout-s", str(START_S), *sets, timeout=START_S + 60)
        command("deploy", str(spec), timeout=START_S)
        yield str(command("status")["endpoints"]["inference"])
    finally:
        command("down", check=False, timeout=START_S)


async def load(run: Run, url: str, clients: int, minutes: float, seed: int, began: float) -> None:
    """All clients for so long, or until ctrl-C; returns when each has its last answer."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end_early() -> None:
        print("stopped early: what follows is of what there is", file=sys.stderr)
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, end_early)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            rng = random.Random(f"{seed} {number}")
            group.create_task(client(url, NAME, rng, run.seen, stop))
        told: Counter[Kind] = Counter()
        while not stop.is_set() and time.monotonic() < began + minutes * 60:
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(60.0, minutes * 60))
            _say(run, run.seen.calls - told, (time.monotonic() - began) / 60)
            told = run.seen.calls.copy()
        stop.set()


def come_to_rest(url: str, state_dir: Path) -> Rest:
    """What is under way once nothing is, or after REST_S."""
    began = time.monotonic()
    while True:
        before, looked = _engine_cpu_s(state_dir), time.monotonic()
        time.sleep(LOOK_S)
        share = (_engine_cpu_s(state_dir) - before) / (time.monotonic() - looked)
        text = httpx.get(f"{url}/metrics", timeout=30).text
        rest = Rest(time.monotonic() - began, in_flight(text), share)
        if rest.reached or rest.after_s > REST_S:
            return rest


def _engine_cpu_s(state_dir: Path) -> float:
    times = [process.cpu_times() for name, process in processes(state_dir) if name == "engine"]
    return sum(each.user + each.system for each in times)


def settled_counts(look: Callable[[], Mapping[str, Any]], labels: int) -> Mapping[str, Any]:
    """The model's counts, once all that was captured is in the lake and nothing came for a while;
    or as they are after SETTLE_S."""
    deadline, before = time.monotonic() + SETTLE_S, None
    while True:
        time.sleep(SETTLE_LOOK_S)
        counts = look()
        is_whole = (
            counts["served"] == counts["acked"] + counts["dropped"]
            and counts["acked"] == counts["lake_rows"] + counts["retries"]
            and counts["labels"] >= labels
        )
        if (is_whole and before == counts) or time.monotonic() > deadline:
            return counts
        before = counts


def restarts(command: Driftloop) -> Counter[str]:
    """By role. On a slow machine Ray may need a second start, which is before the load."""
    return Counter({role["name"]: role["restarts"] for role in command("status")["roles"]})


def soak(run: Run, folder: Path, wanted: argparse.Namespace) -> None:
    command = Driftloop(folder / "state")
    with stack(command, wanted_model(wanted, folder)) as url:
        before = restarts(command)
        stop, began = threading.Event(), time.monotonic()
        sampler = threading.Thread(
            target=sample, args=(command.state_dir, began, run.series, stop), daemon=True
        )
        sampler.start()
        try:
            asyncio.run(load(run, url, wanted.clients, wanted.minutes, wanted.seed, began))
        finally:
            stop.set()
            sampler.join()
        run.rest = come_to_rest(url, command.state_dir)
        look = lambda: command("status")["models"][0]["counts"]  # noqa: E731
        run.counts = settled_counts(look, len(run.seen.rated))
        run.restarts = {role: n for role, n in (restarts(command) - before).items() if n}
        select = 'SELECT prediction_id, "row", finish_reason FROM predictions'
        rows = command("query", NAME, select, timeout=600)
        run.books = compare(run.seen, [Captured(**row) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="instead of SmolLM2-135M-Instruct")
    parser.add_argument("--tiny", action="store_true", help="a model of noise, made on the spot")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the load lasts")
    parser.add_argument("--warm-up-minutes", type=float, default=10.0, help="not judged")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was seen here")
    wanted = parser.parse_args()
    if wanted.minutes - wanted.warm_up_minutes < FITTED_MINUTES:
        raise SystemExit("nothing can be said of less than five minutes after the warm-up")
    # A kill must not leave the stack behind either.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="dl-soak-llm-"))
    run = Run()
    try:
        soak(run, folder, wanted)
    except BaseException:
        print(f"what the stack wrote is kept in {folder}", file=sys.stderr)
        raise
    growths, short = judged(run.series, wanted.warm_up_minutes)
    found = faults(run, growths)
    print(_report(run, growths, short))
    if wanted.json:
        wanted.json.parent.mkdir(parents=True, exist_ok=True)
        wanted.json.write_text(document(run, found))
    shutil.rmtree(folder)
    if found:
        raise SystemExit("; ".join(found))


def document(run: Run, found: Sequence[str]) -> str:
    """As JSON."""

    def plain(value: Any) -> Any:
        return sorted(value) if isinstance(value, set | frozenset) else vars(value)

    return json.dumps(vars(run) | {"faults": found}, default=plain)


def _report(run: Run, growths: Sequence[Growth], short: Sequence[str]) -> str:
    seen, rest, books, counts = run.seen, run.rest, run.books, run.counts
    assert rest is not None
    assert books is not None
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in seen.calls.most_common())
    failures = "".join(f"\n  {number} × {what}" for what, number in seen.failures.most_common())
    whole, left = len(seen.complete), len(seen.left)
    return f"""
{seen.calls.total():,} calls: {kinds}
clients saw {whole:,} whole answers, left {left:,} with an id and {seen.unseen:,} before it; \
{seen.refused:,} were refused; {len(seen.rated):,} rated; failed: {seen.failures.total()}{failures}
leaked: {rest.leaked} ({rest.after_s:.0f} s after the load; \
the engine takes {rest.engine_share:.1%} of a core)
in the lake: {books.rows:,} rows; missing {len(books.missing)}, twice {len(books.twice)}, \
finished otherwise {len(books.odd)}, unknown to clients {books.strangers:,}
driftloop status: served {counts["served"]:,}, dropped {counts["dropped"]}, \
duplicates {counts["duplicates"]}, \
labels {counts["labels"]:,}; restarts {dict(run.restarts) or 0}

{table(growths)}
{f"too short to judge: {', '.join(short)}" if short else ""}"""


def _say(run: Run, calls: Mapping[Kind, int], minutes: float) -> None:
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(calls.items()))
    now = ", ".join(f"{role} {s[-1].pss_mb:.0f}" for role, s in sorted(run.series.items()) if s)
    print(
        f"{minutes:5.1f} min: {sum(calls.values())} calls ({kinds}), "
        f"{run.seen.failures.total()} failed so far; PSS MB: {now}",
        flush=True,
    )


if __name__ == "__main__":
    main()
