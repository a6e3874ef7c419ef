"""The archiver against a real broker: killed under load, and two of them at once."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import pytest
from lake_records import id_of_request, label_message, prediction_message, prediction_rows

from driftloop_bus.port import Bus
from driftloop_contracts.events import LABELS, PREDICTIONS
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.layout import labels_uri
from driftloop_lake.port import LakeCounts
from driftloop_monitoring.archiver import TOPICS
from driftloop_settings.settings import LakeSettings, Settings

pytestmark = pytest.mark.integration

PROGRAM = """
import sys, threading
from driftloop_monitoring.archiver import run
from driftloop_settings.settings import Settings
run(Settings.model_validate_json(sys.argv[1]), threading.Event())
"""
REQUESTS = 1_500
Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def archived(kafka_settings: Settings, tmp_path: Path) -> Settings:
    lake = LakeSettings(uri=str(tmp_path / "lake"), flush_seconds=0.2, compact_every=10)
    return kafka_settings.model_copy(update={"lake": lake})


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
def load(kafka_bus: Bus, kafka_settings: Settings) -> Iterator[str]:
    """A model whose REQUESTS come in, resent now and then, with labels; gives the model's name."""
    kafka_bus.ensure_topics(TOPICS, partitions=2, retention_hours=1)
    model, replica, stop = f"loan-{uuid4().hex[:8]}", uuid4().hex[:8], Event()

    def send() -> None:
        producer = kafka_bus.producer()
        for first in range(0, REQUESTS, 10):
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


def wait_until_all_arrived(settings: Settings, model: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = counts(settings, model)
        if found.rows >= 2 * REQUESTS and found.labels >= 2 * REQUESTS:
            break
        time.sleep(0.2)
    assert counts(settings, model) == LakeCounts(2 * REQUESTS, 0, 2 * REQUESTS)
    labels = LakeTable.open(labels_uri(settings.lake_uri))
    assert labels is not None
    kept = [(row["prediction_id"], row["row"]) for row in labels.scan().to_pylist()]
    assert len(kept) == len(set(kept))


def test_an_archiver_killed_again_and_again_loses_and_doubles_nothing(
    archived: Settings, load: str, start: Start
) -> None:
    process = start()
    for _ in range(5):
        before = counts(archived, load).rows
        deadline = time.monotonic() + 20
        while counts(archived, load).rows == before < 2 * REQUESTS:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait()
        process = start()
    wait_until_all_arrived(archived, load, 30)


def test_two_archivers_at_once_lose_and_double_nothing(
    archived: Settings, load: str, start: Start
) -> None:
    first, second = start(), start()
    wait_until_all_arrived(archived, load, 60)
    assert first.poll() is None
    assert second.poll() is None
