"""The archiver against a real broker: killed under load, and several of them at once."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import pytest
from lake_records import id_of_request, label_message, prediction_message, prediction_rows

from driftloop_bus.port import Bus
from driftloop_contracts.events import LABELS, PREDICTIONS
from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.layout import labels_uri
from driftloop_lake.port import LakeCounts
from driftloop_monitoring.archive.archiver import TOPICS
from driftloop_settings import LakeSettings, Settings
from driftloop_store.store import open_store

pytestmark = pytest.mark.faults

PROGRAM = """
import signal, sys, threading
from driftloop_monitoring.archive.archiver import run
from driftloop_settings import Settings
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run(Settings.model_validate_json(sys.argv[1]), stop)
"""
REPLICAS, REQUESTS = 3, 500
ROWS = 2 * REPLICAS * REQUESTS
Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def archived(kafka_settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "state").mkdir()
    lake = LakeSettings(uri=str(tmp_path / "lake"), flush_seconds=0.2)
    return kafka_settings.model_copy(update={"lake": lake, "state_dir": tmp_path / "state"})


@pytest.fixture
def start(archived: Settings) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def one() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", PROGRAM, archived.model_dump_json()]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def load(kafka_bus: Bus, archived: Settings) -> Iterator[str]:
    """A model whose requests come in from some replicas, resent now and then, with labels; gives
    the model's name."""
    kafka_bus.ensure_topics(TOPICS, partitions=4, retention_hours=1)
    model, stop = f"loan-{uuid4().hex[:8]}", Event()
    with closing(open_store(archived.store_url)) as store:
        store.put_deployment(Deployment(ModelSpec(name=model), (), TrafficSplit(1)))
    replicas = [uuid4().hex[:8] for _ in range(REPLICAS)]

    def send() -> None:
        producer = kafka_bus.producer()
        for first, replica in product(range(0, REQUESTS, 10), replicas):
            begin = first - 5 if first % 100 == 50 else first  # repacked by a restarted shipper
            record = prediction_message(
                prediction_rows(begin, first + 9, replica=replica), 0, model=model
            )
            producer.send(PREDICTIONS, record.value, key=replica.encode(), headers=record.headers)
            for sequence in range(first, first + 10):
                label = label_message(
                    0, prediction_id=id_of_request(sequence, replica), label=[0, 1]
                )
                producer.send(LABELS, label.value, key=replica.encode())
            stop.wait(0.05)
        producer.flush(30)
        producer.close()

    thread = Thread(target=send)
    thread.start()
    yield model
    stop.set()
    thread.join()


def counts(settings: Settings, model: str) -> LakeCounts:
    lake = DeltaLake(settings.lake_uri)
    pin = lake.pin(model)
    return LakeCounts(0, 0, 0) if pin is None else lake.count(model, pin)


def labels_kept(settings: Settings) -> list[tuple[str, int]]:
    labels = LakeTable.open(labels_uri(settings.lake_uri))
    rows = [] if labels is None else labels.scan(["prediction_id", "row"]).to_pylist()
    return [(row["prediction_id"], row["row"]) for row in rows]


def wait_until_all_arrived(settings: Settings, model: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = counts(settings, model)
        if found.rows >= ROWS and found.labels >= ROWS:
            break
        time.sleep(0.2)
    assert counts(settings, model) == LakeCounts(ROWS, 0, ROWS)
    kept = labels_kept(settings)
    assert len(kept) == len(set(kept))


def wait_for_rows(settings: Settings, model: str, more: int) -> None:
    wanted = min(counts(settings, model).rows + more, ROWS)
    deadline = time.monotonic() + 30
    while counts(settings, model).rows < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_archiver_killed_again_and_again_loses_and_doubles_nothing(
    archived: Settings, load: str, start: Start
) -> None:
    process = start()
    for _ in range(5):
        wait_for_rows(archived, load, 1)
        process.kill()
        process.wait()
        process = start()
    wait_until_all_arrived(archived, load, 30)


def test_archivers_that_come_hang_and_are_killed_lose_and_double_nothing(
    archived: Settings, load: str, start: Start
) -> None:
    first, second = start(), start()
    wait_for_rows(archived, load, 20)
    first.kill()
    first.wait()
    third, fourth = start(), start()
    wait_for_rows(archived, load, 20)
    # It hangs until the group has given its partitions to the others, and they have read all; then
    # it wakes up with rows of those partitions in its hands.
    second.send_signal(signal.SIGSTOP)
    wait_until_all_arrived(archived, load, 90)
    second.send_signal(signal.SIGCONT)
    for process in (second, third, fourth):
        process.terminate()
    assert [process.wait(30) for process in (second, third, fourth)] == [0, 0, 0]
    wait_until_all_arrived(archived, load, 0)
