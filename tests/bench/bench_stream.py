"""Kafka to lake and back: `make bench-stream`, or `python tests/bench/bench_stream.py [--quick |
--full]`.

Rows have 20 float32 inputs, one float32 output and the fixed columns; one row is one prediction
with an id of its own. The broker is the real local Kafka, the lake lies on this machine's disk.

- capture: what the record of a request costs the replica, the append to its spool alone, a process
  with
  nothing else to do: CPU of batches of 1, 16 and 64 one-row requests.
- archive: what the topic holds already is read into an empty lake, by the archiver as it runs in
  production; rows per second of CPU time (all threads of the process), and bytes per row in the
  lake.
- visible: one record sent into the idle archiver at a random moment, until a reader of the lake
  sees it.
- answered: a whole stack (`driftloop up`, default settings) is asked at random moments; from the
  answer
  until a reader of the lake sees the row.
- window: the newest 5,000 labelled rows with labels as of a time, median of 7, a fresh reader each
  time
  (`cold`), and a reader that is kept (`warm`). Of 100 million rows (`--full`, 20 minutes and 6 GB
  of disk) the columns have 256 distinct values each, so that they fit.
"""

import argparse
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import pyarrow as pa
import structlog
from soak import arrays, stack, v2_json

from driftloop_bus import local_kafka
from driftloop_bus.kafka_bus import KafkaBus
from driftloop_contracts.events import (
    LABEL_SCHEMA,
    LATER_COLUMNS,
    PREDICTIONS,
    PredictionHeaders,
    prediction_schema,
)
from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_lake import layout
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.upkeep import Rules, Upkeep
from driftloop_monitoring.archive import archiver
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_settings import CaptureSettings, LakeSettings, Settings
from driftloop_store.store import open_store

PARTS = ("capture", "archive", "answered", "window")
MODEL, COLUMNS, RECORD_ROWS = "bench", 20, 5_000
START = datetime(2026, 3, 1, tzinfo=UTC)
SIGNATURE = Signature(
    tuple(TensorSpec(f"x{n}", "FP32", (-1, 1)) for n in range(COLUMNS)),
    (TensorSpec("score", "FP32", (-1,)),),
)
SCHEMA = prediction_schema(SIGNATURE)


def predictions(
    rng: np.random.Generator,
    first: int,
    rows: int,
    us_apart: int = 8_000,
    distinct: int | None = None,
) -> pa.Table:
    """`rows` one-row requests from sequence `first` on. `distinct`: values in a column; None:
    all."""
    times = int(START.timestamp() * 1_000_000) + us_apart * np.arange(first, first + rows)
    columns = {
        "prediction_id": ids(times // 1000, rng),
        "row": pa.array(np.zeros(rows, np.int32)),
        "version": pa.array(np.ones(rows, np.int32)),
        "arm": pa.array(["stable"] * rows),
        "predicted_at": pa.array(times, pa.timestamp("us", tz="UTC")),
        "replica": pa.array(["replica-1"] * rows),
        "sequence": pa.array(np.arange(first, first + rows)),
        "latency_s": pa.array(rng.gamma(2.0, 0.001, rows).astype(np.float32)),
        "error": pa.nulls(rows, pa.string()),
    }
    for field in SCHEMA:
        if field.name in LATER_COLUMNS:
            columns[field.name] = pa.nulls(rows, field.type)
        elif field.name not in columns:
            columns[field.name] = pa.array(_values(rng, rows, distinct))
    return pa.table(columns, schema=SCHEMA)


def _values(rng: np.random.Generator, rows: int, distinct: int | None) -> np.ndarray:
    if distinct is None:
        return rng.normal(size=rows).astype(np.float32)
    return rng.integers(0, distinct, rows).astype(np.float32)


def ids(times_ms: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """As `uuid7` makes them, a hundred times quicker."""
    octets = np.empty((len(times_ms), 16), np.uint8)
    octets[:, :6] = times_ms.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    octets[:, 6:] = rng.integers(0, 256, (len(times_ms), 10), np.uint8)
    octets[:, 6] = 0x70 | octets[:, 6] & 0x0F
    octets[:, 8] = 0x80 | octets[:, 8] & 0x3F
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.full((len(times_ms), 36), ord("-"), np.uint8)
    places = [n for n in range(36) if n not in (8, 13, 18, 23)]
    text[:, places] = digits[np.stack([octets >> 4, octets & 15], axis=2).reshape(-1, 32)]
    offsets = pa.py_buffer(np.arange(0, 36 * len(times_ms) + 1, 36, dtype=np.int32))
    return pa.StringArray.from_buffers(len(times_ms), offsets, pa.py_buffer(text))


def capture(requests: int) -> None:
    """One request after another, by batches of so many."""
    rng, folder = np.random.default_rng(6), Path(tempfile.mkdtemp(prefix="bench-spool-"))
    try:
        for size in (1, 16, 64):
            spool = SpoolWriter(folder, f"of-{size}", CaptureSettings(quota_bytes=8 << 30))
            inputs = {
                t.name: rng.normal(size=(size, 1)).astype(np.float32) for t in SIGNATURE.inputs
            }
            outputs = {"score": rng.normal(size=size).astype(np.float32)}
            batch_ids = ids(np.full(size, 1_800_000_000_000), rng).to_pylist()
            used = cpu_s()
            for _ in range(requests // size):
                batch = PredictionBatch(
                    MODEL,
                    1,
                    "stable",
                    batch_ids,
                    [0.001] * size,
                    [1] * size,
                    SIGNATURE,
                    inputs,
                    outputs,
                )
                spool.append([batch])
            took = 1e6 * (cpu_s() - used) / requests
            spool.close()
            print(f"capture: {took:.1f} us of CPU a request, {size} in a batch")
    finally:
        shutil.rmtree(folder)


def labels(rng: np.random.Generator, rows: pa.Table, share: float) -> pa.Table:
    """Labels of a share of the rows, each received an hour after its prediction."""
    chosen = rows.filter(pa.array(rng.random(rows.num_rows) < share))
    count = chosen.num_rows
    received = pa.array(
        chosen.column("predicted_at").cast(pa.int64()).to_numpy() + 3_600_000_000,
        pa.timestamp("us", tz="UTC"),
    )
    numbers = rng.integers(0, 2, count)
    return pa.table(
        {
            "prediction_id": chosen.column("prediction_id"),
            "row": chosen.column("row"),
            "metric": ["label"] * count,
            "value": [str(n) for n in numbers],
            "number": numbers.astype(float),
            "observed_at": received,
            "received_at": received,
            "source": ["api"] * count,
            "tags": ["{}"] * count,
        },
        schema=LABEL_SCHEMA,
    )


def send(bus: KafkaBus, table: pa.Table) -> None:
    """As the shipper does: an Arrow stream a record."""
    with closing(bus.producer()) as producer:
        for batch in table.to_batches(RECORD_ROWS):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, SCHEMA) as stream:
                stream.write_batch(batch)
            sequences = batch.column("sequence")
            headers = PredictionHeaders(
                MODEL, 1, "replica-1", sequences[0].as_py(), sequences[-1].as_py(), batch.num_rows
            )
            producer.send(
                PREDICTIONS,
                sink.getvalue().to_pybytes(),
                key=b"replica-1",
                headers=headers.encode(),
            )
        producer.flush(60)


def rows_in(uri: str) -> int:
    """From the files' statistics: it reads no row."""
    table = LakeTable.open(layout.predictions_uri(uri, MODEL))
    return 0 if table is None else table.rows()


def until(what: Callable[[], bool], every_s: float = 0.02) -> None:
    while not what():
        time.sleep(every_s)


@contextmanager
def archiving(settings: Settings) -> Iterator[None]:
    stop = Event()
    thread = Thread(target=archiver.run, args=(settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def archive(settings: Settings, bus: KafkaBus, rows: int) -> None:
    rng = np.random.default_rng(7)
    bus.ensure_topics(archiver.TOPICS, partitions=2, retention_hours=1)
    for first in range(0, rows, 100_000):
        send(bus, predictions(rng, first, 100_000))
    started, used = time.perf_counter(), cpu_s()
    with archiving(settings):
        until(lambda: rows_in(settings.lake_uri) >= rows, every_s=0.2)
        wall, cpu = time.perf_counter() - started, cpu_s() - used
    folder = Path(layout.predictions_uri(settings.lake_uri, MODEL))
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    print(
        f"archive: {rows:,} rows, {wall:.1f} s, {rows / wall:,.0f} rows/s, "
        f"{rows / cpu:,.0f} rows/s of CPU, {size / rows:.0f} bytes a row"
    )


def visible(settings: Settings, bus: KafkaBus, first: int, times: int) -> None:
    rng, seen = np.random.default_rng(8), []
    with archiving(settings):
        for number in range(times + 1):
            before = rows_in(settings.lake_uri)
            time.sleep(random.random() * settings.lake.flush_seconds)
            table = predictions(rng, first + number * 100, 100)
            started = time.perf_counter()
            send(bus, table)
            until(lambda b=before: rows_in(settings.lake_uri) > b)
            seen.append(time.perf_counter() - started)
    seen = seen[1:]  # the archiver's own start is in the first
    print(
        f"visible: median {statistics.median(seen):.2f} s, worst of {times} {max(seen):.2f} s "
        f"(flush_seconds {settings.lake.flush_seconds})"
    )


def answered(times: int) -> None:
    """Of a whole stack."""
    folder, seen = Path(tempfile.mkdtemp(prefix="bench-stack-")), []
    try:
        with stack(folder / "state") as port, httpx.Client() as client:
            body = v2_json(arrays([1])[0]).body
            lake = DeltaLake(str(folder / "state" / "lake"))
            for _ in range(times + 1):
                time.sleep(random.random() * LakeSettings().flush_seconds)
                url = f"http://127.0.0.1:{port}/v2/models/m/infer"
                wanted = client.post(url, content=body).headers["x-prediction-id"]
                started = time.perf_counter()
                until(lambda w=wanted: _sees(lake, w))
                seen.append(time.perf_counter() - started)
    finally:
        shutil.rmtree(folder)
    seen = seen[1:]  # the archiver's own start is in the first
    print(f"answered: median {statistics.median(seen):.2f} s, worst of {times} {max(seen):.2f} s")


def _sees(lake: DeltaLake, prediction_id: str) -> bool:
    pin = lake.pin("m")
    if pin is None:
        return False
    rows = lake.labelled("m", pin, newest=1, only_labelled=False)
    return bool(rows.num_rows) and rows.column("prediction_id")[-1].as_py() == prediction_id


def window(rows: int, share: float = 0.84) -> None:
    """Builds the lake as the archiver would, in commits of 100,000 rows or a hundredth, kept by its
    upkeep."""
    rng, uri = np.random.default_rng(9), tempfile.mkdtemp(prefix="bench-lake-")
    us_apart = 10 * 86_400_000_000 // rows  # ten days
    step = max(100_000, rows // 100)
    distinct = 256 if rows > 10_000_000 else None
    try:
        dated = pa.schema([*SCHEMA, layout.DATE_FIELD])
        table = LakeTable.create(layout.predictions_uri(uri, MODEL), dated, layout.DATE)
        label_schema = pa.schema([*LABEL_SCHEMA, layout.DATE_FIELD])
        label_table = LakeTable.create(layout.labels_uri(uri), label_schema, layout.DATE)
        for first in range(0, rows, step):
            new = predictions(rng, first, step, us_apart, distinct)
            known = labels(rng, new, share)
            table.append(layout.dated(new, layout.days_of(new.column("predicted_at"))), {})
            at = known.column("received_at").cast(pa.int64()).to_numpy() - 3_600_000_000
            made = pa.chunked_array([pa.array(at, pa.timestamp("us", tz="UTC"))])
            label_table.append(layout.dated(known, layout.days_of(made)), {})
            if first % max(step, rows // 10) == 0:
                print(f"writing {first:,} of {rows:,} rows", file=sys.stderr, flush=True)
            if first // step % 20 == 0:
                Upkeep(uri, Rules(20, 8), lambda: []).step(START)
        Upkeep(uri, Rules(2, 8), lambda: []).step(START)
        as_of = START + timedelta(microseconds=us_apart * rows) + timedelta(minutes=50)
        kept = DeltaLake(uri)
        cold = [_asked(DeltaLake(uri), as_of) for _ in range(7)]
        warm = [_asked(kept, as_of) for _ in range(7)]
        print(
            f"window: of {rows:,} rows: cold {1000 * statistics.median(cold):.0f} ms, "
            f"warm {1000 * statistics.median(warm):.0f} ms"
        )
    finally:
        shutil.rmtree(uri)


def _asked(lake: DeltaLake, as_of: datetime) -> float:
    started = time.perf_counter()
    pin = lake.pin(MODEL)
    assert pin is not None
    found = lake.labelled(MODEL, pin, as_of=as_of, newest=5_000)
    assert found.num_rows == 5_000
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument(
        "--full", action="store_true", help="the window query at 100 million rows too"
    )
    parser.add_argument("--only", choices=PARTS, help="one part")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    rows = 200_000 if asked.quick else 2_000_000
    parts = PARTS if asked.only is None else [asked.only]
    if "capture" in parts:
        capture(20_000 if asked.quick else 200_000)
    if "archive" in parts:
        state = Path(tempfile.mkdtemp(prefix="bench-stream-"))
        settings = local_kafka.with_port(Settings(state_dir=state), 0)
        try:
            port = local_kafka.start(settings)["port"]
            settings = local_kafka.with_port(settings, port)
            bus = KafkaBus(f"127.0.0.1:{port}", settings.kafka)
            with closing(open_store(settings.store_url)) as store:
                store.put_deployment(Deployment(ModelSpec(MODEL), (), TrafficSplit(1)))
            archive(settings, bus, rows)
            visible(settings, bus, rows, 5 if asked.quick else 20)
        finally:
            local_kafka.stop(settings)
            shutil.rmtree(state)
    if "answered" in parts:
        answered(5 if asked.quick else 20)
    if "window" in parts:
        window(1_000_000)
        if not asked.quick:
            window(10_000_000)
        if asked.full:
            window(100_000_000)


if __name__ == "__main__":
    main()
