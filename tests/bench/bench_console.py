"""How long the console's pages take over a store of many models and windows (ADR 38).

The gateway's application with its middleware, asked in the process: what a browser waits for
without the network. Promise: 95 % of the requests of each page within 300 ms.

    python tests/bench/bench_console.py [--models 500] [--windows 10000] [--store FOLDER]
"""

import argparse
import contextlib
import gc
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import sqlalchemy as sa
from console_records import (
    REFERENCE_SKETCH,
    drift,
    fill,
    monitor_state,
    sketch,
    waited,
    window,
)  # fmt: skip
from console_server import console as served_console
from fastapi.testclient import TestClient

from driftloop_console.changes_feed import Tokens, tokens
from driftloop_console.context import ConsoleContext
from driftloop_gateway.app import GatewayContext, make_app
from driftloop_settings import Settings
from driftloop_settings.memory import rare_collections
from driftloop_store import Store, open_store
from driftloop_store import tables as t

PROMISE_MS = 300.0
FIRST = "model-0"
COLUMNS, SKETCHES = 50, 300
COPIED = {
    "deployments": ("body", "model"), "windows": ("id", "body", "model"),
    "findings": ("id", "body", "model"), "decisions": ("id", "body", "model"),
    "sketches": ("id", "model"), "cursors": ("name",), "ledger": ("model",), "changes": ("model",),
}  # fmt: skip
"""The columns of each table that hold the model's name, one that identifies its rows last."""
OPEN_S, SETTLED_S = 20.0, 3.0
NOT_USED: Any = None
PAGES = (
    "/", "/?sort_models=-error", "/?format=csv", "/models/model-7", "/models/model-7?last=7d",
    "/models/model-7?last=7d&compare=7d", "/models/model-7?format=json&table=windows",
    "/models/canary/versions/2", "/rollouts/canary-rollout", "/retrains/retraining-retrain",
    "/incidents", "/incidents/incident", "/decisions", "/audit", "/data?model=model-7",
    "/settings", "/system",
)  # fmt: skip


def fill_many(url: str, models: int, windows: int) -> None:
    """Written past the store's methods, which would take hours: `model-0` row by row, the others as
    its copies by SQL."""
    now = datetime.now(UTC)
    store = open_store(url)
    list(fill(store, hours=200, end=now))
    deployment = store.require_deployment("healthy").to_dict()
    store.close()
    deployment = {**deployment, "revision": 1, "model": {**deployment["model"], "name": FIRST}}
    rows = [window(FIRST, hour, now).to_dict() for hour in range(windows)]
    moved = [drift(FIRST, hour, f"c{hour % 7}", now).to_dict() for hour in range(0, windows, 4)]
    decided = [waited(FIRST, hour).to_dict() for hour in range(0, windows, 50)]
    columns = {f"in_c{number}": sketch(0)["in_income"] for number in range(COLUMNS)}
    kept = [{"version": 1, "columns": columns}] * min(windows, SKETCHES)
    known = dict.fromkeys(columns, REFERENCE_SKETCH["columns"]["in_income"])
    reference = {**REFERENCE_SKETCH, "columns": known}
    ledger = {"replica": "replica-1", "version": 1}
    ledger |= {"served": 96_010, "acked": 96_000, "spooled": 7, "dropped": {"quota": 3}}
    engine = _bulk_engine(url)
    later = [index for name in COPIED for index in t.metadata.tables[name].indexes]
    with engine.begin() as c:
        for index in later:
            index.drop(c)
        c.execute(t.deployments.insert(), {"model": FIRST, "revision": 1, "body": deployment})
        c.execute(t.windows.insert(), [_row(r, "window_id", r["ended_at"]) for r in rows])
        c.execute(
            t.findings.insert(),
            [{**_row(r, "finding_id", r["at"]), "severity": "warning"} for r in moved],
        )
        c.execute(t.decisions.insert(), [_row(r, "decision_id", r["at"]) for r in decided])
        c.execute(
            t.sketches.insert(),
            [
                {"id": r["window_id"], "model": FIRST, "at": r["ended_at"], "body": one}
                for r, one in zip(rows, kept, strict=False)
            ],
        )
        cursors = {f"monitor/{FIRST}": monitor_state(now), f"sketch/{FIRST}/1": reference}
        c.execute(t.cursors.insert(), [{"name": n, "body": b} for n, b in cursors.items()])
        c.execute(
            t.ledger.insert(), {"replica": "replica-1", "model": FIRST, "version": 1, **ledger}
        )
        c.execute(t.changes.insert(), {"model": FIRST, "revision": windows})
    for table, named in COPIED.items():
        with engine.begin() as c:
            _copy(c, t.metadata.tables[table], named, models - 6)
    with engine.begin() as c:
        for index in later:
            index.create(c)
        c.execute(sa.text("ANALYZE"))
    engine.dispose()


def _bulk_engine(url: str) -> sa.Engine:
    """For gigabytes that nobody would miss: without a journal, indexes are made at the end."""
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("PRAGMA temp_store=MEMORY")

    return engine


def _copy(c: sa.Connection, table: sa.Table, named: tuple[str, ...], models: int) -> None:
    """The rows of `model-0` for each other model. named: the columns that hold its name."""
    ours = sa.select(table).where(table.c[named[-1]].contains(FIRST)).subquery()
    numbers = sa.select(sa.column("value")).select_from(sa.func.json_each(sa.bindparam("n")))
    others = numbers.subquery()
    values = [
        sa.func.replace(ours.c[column.name], FIRST, sa.literal("model-") + others.c.value)
        if column.name in named
        else ours.c[column.name]
        for column in table.columns
    ]
    copies = sa.select(*values).select_from(ours.join(others, sa.true()))
    names = [column.name for column in table.columns]
    c.execute(table.insert().from_select(names, copies), {"n": json.dumps([*range(1, models)])})


def _row(record: dict[str, Any], id_: str, at: str) -> dict[str, Any]:
    return {"id": record[id_], "model": record["model"], "at": at, "body": record}


def taken_ms(client: TestClient, url: str, requests: int) -> tuple[float, float, float]:
    """Median and 95th percentile of what a page takes, and the CPU time of one, in ms; asked once
    before."""
    taken, cpu = [], 0.0
    for number in range(requests + 1):
        begun = time.perf_counter()
        answer = client.get(url)
        if number:
            taken.append((time.perf_counter() - begun) * 1e3)
        else:
            cpu = time.process_time()
        if answer.status_code != 200:
            raise SystemExit(f"{url} answered {answer.status_code}: {answer.text[:300]}")
    used = (time.process_time() - cpu) / requests * 1e3
    return statistics.median(taken), sorted(taken)[int(0.95 * len(taken))], used


def open_pages(store: Store, folder: Path, pages: int) -> float:
    """The share of a core that the server and those who read its events take."""
    with served_console(store, folder) as url, contextlib.ExitStack() as stack:
        for number in range(pages):
            page = {"page": f"/models/model-{number + 1}"}
            client = stack.enter_context(httpx.Client(timeout=60))
            events = stack.enter_context(client.stream("GET", f"{url}/live", params=page))
            lines = events.iter_lines()
            while not next(lines).startswith(
                "event: table-retrains"
            ):  # the last section of the page
                pass
        time.sleep(SETTLED_S)
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(OPEN_S)
        return (time.process_time() - cpu) / (time.monotonic() - began)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--models", type=int, default=500)
    arguments.add_argument("--windows", type=int, default=10_000)
    arguments.add_argument("--requests", type=int, default=20)
    arguments.add_argument("--store", type=Path, help="a folder: filled once, and used again")
    given = arguments.parse_args()
    gc.freeze()  # as the gateway does
    rare_collections()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.store or Path(temporary)
        url, begun, cpu = f"sqlite:///{folder}/store.db", time.perf_counter(), time.process_time()
        if not (folder / "store.db").exists():
            folder.mkdir(exist_ok=True)
            fill_many(url, given.models, given.windows)
        store = open_store(url)
        print(f"{given.models} models × {given.windows} windows, filled in "
              f"{time.perf_counter() - begun:.0f} s, CPU {time.process_time() - cpu:.0f} s, "
              f"{(folder / 'store.db').stat().st_size / 1e9:.1f} GB")  # fmt: skip
        settings = Settings(state_dir=folder)

        def now() -> datetime:
            return datetime.now(UTC)

        context = GatewayContext(
            settings, store, NOT_USED, NOT_USED, NOT_USED, lambda: None, now, NOT_USED
        )
        console = ConsoleContext(settings, store, lambda: None, now)
        worst = 0.0
        print(f"{'page':<45} {'median ms':>9} {'p95 ms':>9} {'CPU ms':>9}")
        with TestClient(make_app(context), base_url="http://127.0.0.1") as client:
            for page in PAGES:
                median, p95, cpu = taken_ms(client, page, given.requests)
                worst = max(worst, p95)
                print(f"{page:<45} {median:>9.0f} {p95:>9.0f} {cpu:>9.0f}")
        known = tokens(console)
        for what, before in (("idle", known), ("busy", Tokens())):
            begun = time.process_time()
            for _ in range(100):
                tokens(console, before)
            share = (time.process_time() - begun) / 100
            print(
                f"one poll for all open pages, each second, {what}: {100 * share:.2f} % of a core"
            )
        for pages in (1, 10):
            share = open_pages(store, folder, pages)
            print(f"{pages} open pages of models on which nothing happens: {share:.2%} of a core")
        store.close()
    if worst > PROMISE_MS:
        raise SystemExit(f"promised: {PROMISE_MS:.0f} ms; the slowest page took {worst:.0f} ms")


if __name__ == "__main__":
    main()
