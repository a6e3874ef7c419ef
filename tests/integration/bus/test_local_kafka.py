"""The single-node broker as a process: starts, stops, kills, and what survives them."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from driftloop_bus import connect, local_kafka
from driftloop_contracts.errors import RetryLater, Unavailable
from driftloop_settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A stack of the test's own that has no broker yet."""
    made = local_kafka.with_port(Settings(state_dir=tmp_path), 0)
    yield made
    local_kafka.stop(made)


def test_a_broker_starts_once_answers_and_stops(settings: Settings) -> None:
    first = local_kafka.start(settings)
    assert first["running"]
    assert first["answers"]
    assert first["version"].startswith("4.")
    assert local_kafka.start(settings)["pid"] == first["pid"]
    listening = {c.laddr.ip for c in psutil.Process(first["pid"]).net_connections("tcp")}
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    stopped = local_kafka.stop(settings)
    assert not stopped["running"]
    assert not psutil.pid_exists(first["pid"]) or (
        psutil.Process(first["pid"]).status() == psutil.STATUS_ZOMBIE
    )


def test_a_free_port_is_kept_and_so_are_the_records(settings: Settings) -> None:
    port = local_kafka.start(settings)["port"]
    bus = connect(local_kafka.with_port(settings, port))
    bus.ensure_topics(["kept"], partitions=1, retention_hours=1)
    with closing(bus.producer()) as producer:
        producer.send("kept", b"a").result(20)
    local_kafka.stop(settings)
    assert local_kafka.start(settings)["port"] == port
    assert bus.end_offsets("kept") == {0: 1}


def test_half_a_format_is_done_again(settings: Settings) -> None:
    data = settings.state_dir / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("cluster.id=half")
    assert local_kafka.start(settings)["answers"]


def test_a_role_that_becomes_the_broker_takes_over_from_one_that_was_left_behind(
    settings: Settings,
) -> None:
    left = local_kafka.start(settings)["pid"]
    argv = local_kafka.command(settings)
    assert local_kafka.status(settings)["running"] is False
    assert argv[0].endswith("java")
    with subprocess.Popen(argv) as broker:
        try:
            assert broker.pid != left
            assert broker.poll() is None
        finally:
            broker.kill()


def test_a_bus_without_a_broker_waits_and_says_so(settings: Settings) -> None:
    bus = connect(local_kafka.with_port(settings, 1))
    with pytest.raises(RetryLater):
        bus.ensure_topics(["t"], partitions=1, retention_hours=1)
    with closing(bus.consumer()) as consumer:
        consumer.assign({("t", 0): -1})
        assert consumer.poll(0.2) == []
    producer = bus.producer()
    future = producer.send("t", b"a")
    with pytest.raises(RetryLater):
        producer.flush(0.1)
    producer.close()
    with pytest.raises(RetryLater):
        future.result(0)


def test_a_broker_killed_under_load_loses_doubles_and_reorders_nothing(settings: Settings) -> None:
    document = local_kafka.start(settings)
    bus = connect(local_kafka.with_port(settings, document["port"]))
    bus.ensure_topics(["load"], partitions=2, retention_hours=1)
    half_way, enough = threading.Event(), threading.Event()
    sent: dict[bytes, int] = {}
    acknowledged: list[tuple[bytes, int, tuple[int, int]]] = []

    with closing(bus.producer()) as producer, closing(bus.consumer()) as consumer:

        def load() -> None:
            futures = []
            while not enough.is_set():
                for key in (b"a", b"b", b"c"):
                    number = sent.get(key, 0)
                    sent[key] = number + 1
                    value = b"%d " % number + os.urandom(4_000)
                    futures.append((key, number, producer.send("load", value, key=key)))
                if sum(sent.values()) > 1_500:
                    half_way.set()
                time.sleep(0.001)  # a steady stream, not a wait
            producer.flush(60)
            acknowledged.extend((key, number, f.result(0)) for key, number, f in futures)

        sender = threading.Thread(target=load)
        sender.start()
        consumer.assign({("load", 0): -1, ("load", 1): -1})
        found = consumer.poll(20)
        assert half_way.wait(60)
        os.kill(document["pid"], signal.SIGKILL)
        psutil.wait_procs([psutil.Process(document["pid"])], timeout=10)
        local_kafka.start(settings)
        after = bus.end_offsets("load")
        while bus.end_offsets("load") == after:
            found += consumer.poll(0.5)
        enough.set()
        sender.join(90)
        total = sum(sent.values())
        deadline = time.monotonic() + 60
        while len(found) < total and time.monotonic() < deadline:
            found += consumer.poll(1.0)
        found += consumer.poll(0.5)

    assert len(acknowledged) == total
    for key, count in sent.items():
        read = [int(m.value.split(b" ", 1)[0]) for m in found if m.key == key]
        assert read == list(range(count))
    where = {(m.key, int(m.value.split(b" ", 1)[0])): (m.partition, m.offset) for m in found}
    assert all(where[key, number] == place for key, number, place in acknowledged)


def test_a_broker_that_cannot_have_its_port_says_so(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Unavailable, match=r"in use"):
            local_kafka.start(local_kafka.with_port(settings, taken.getsockname()[1]))
