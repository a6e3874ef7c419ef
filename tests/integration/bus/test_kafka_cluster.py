"""A cluster of three brokers behind TLS and SASL: who gets in, and what a change of leaders
costs."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from kafka_cluster import KafkaCluster, kafka_cluster
from pydantic import SecretStr

from driftloop_bus import Bus, Message
from driftloop_bus.kafka_bus import KafkaBus
from driftloop_contracts.errors import RetryLater
from driftloop_contracts.events import PREDICTIONS, TOPICS, PredictionHeaders
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.capture.shipper import Shipper
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_settings import CaptureSettings, KafkaSettings
from driftloop_store import open_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
WAIT_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with kafka_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def with_settings(cluster: KafkaCluster, **changes: object) -> KafkaBus:
    assert cluster.settings.bootstrap_servers is not None
    settings: KafkaSettings = cluster.settings.model_copy(update=changes)
    return KafkaBus(cluster.settings.bootstrap_servers, settings)


def test_a_client_with_the_certificate_and_the_password_gets_in(cluster: KafkaCluster) -> None:
    make_topics(cluster.bus, ["secured"], 1)
    with closing(cluster.bus.producer()) as producer:
        assert producer.send("secured", b"value").result(WAIT_S) == (0, 0)
    assert [m.value for m in read(cluster.bus, "secured", 1)] == [b"value"]


@pytest.mark.parametrize(
    "changes",
    [
        {"sasl_password": SecretStr("another-password")},
        {"ssl_cafile": None},
        {"security_protocol": "PLAINTEXT"},
    ],
    ids=["wrong password", "unknown certificate", "no security"],
)
def test_others_are_told_to_wait_without_the_password_in_it(
    cluster: KafkaCluster, changes: dict[str, object]
) -> None:
    with pytest.raises(RetryLater) as refused:
        with_settings(cluster, **changes).topics()
    assert "password-of" not in str(refused.value)
    assert "another-password" not in str(refused.value)


def test_what_was_captured_arrives_once_and_in_order_while_leaders_are_killed(
    cluster: KafkaCluster, tmp_path: Path
) -> None:
    bus = cluster.bus
    make_topics(bus, TOPICS, 2)
    writer = SpoolWriter(tmp_path / "spool", "replica", CaptureSettings())
    stop, kept = threading.Event(), 0
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as store:
        shipper = Shipper(tmp_path / "spool", bus, store, pack_rows=50)
        shipping = threading.Thread(target=ship, args=(shipper, stop))
        shipping.start()

        def keep_until(done: "threading.Event") -> None:
            nonlocal kept
            while not done.wait(0.002):
                assert writer.append([batch(kept)])
                kept += 1

        quiet = threading.Event()
        keeping = threading.Thread(target=keep_until, args=(quiet,))
        keeping.start()
        try:
            partition = until(lambda: where_records_are(bus), "no record arrived")
            for _ in range(2):
                leader = cluster.leader(PREDICTIONS, partition)
                before = bus.end_offsets(PREDICTIONS)[partition]
                cluster.kill(leader)
                until(
                    lambda before=before: bus.end_offsets(PREDICTIONS)[partition] > before + 5,
                    "nothing arrived under the next leader",
                )
                assert cluster.leader(PREDICTIONS, partition) != leader
                cluster.start(leader)
                until(
                    lambda: cluster.in_sync(PREDICTIONS, partition) == 3,
                    "the killed broker did not catch up",
                )
            quiet.set()
            keeping.join()
            writer.close()
            until(lambda: not any((tmp_path / "spool").iterdir()), "the spool was not shipped")
        finally:
            quiet.set()
            stop.set()
            keeping.join()
            shipping.join()
            shipper.close()
        assert store.ledger("m")[0]["acked"] == kept
    count = sum(bus.end_offsets(PREDICTIONS).values())
    headers = [PredictionHeaders.decode(m.headers) for m in read(bus, PREDICTIONS, count)]
    sequences = [n for h in headers for n in range(h.first_sequence, h.last_sequence + 1)]
    assert sequences == list(range(kept))


def make_topics(bus: Bus, topics: Sequence[str], partitions: int) -> None:
    """As soon as there are brokers enough to keep them."""

    def made() -> bool:
        bus.ensure_topics(topics, partitions=partitions, retention_hours=1)
        return True

    until(made, "the topics were not made")


def ship(shipper: Shipper, stop: threading.Event) -> None:
    while not stop.is_set():
        shipper.step(1.0)
        shipper.write_ledger()
        stop.wait(0.02)


def batch(number: int) -> PredictionBatch:
    values = np.full(1, number, np.float32)
    return PredictionBatch(
        "m", 1, "stable", [new_prediction_id()], [0.1], [1], SIGNATURE, {"x": values}, {"y": values}
    )


def where_records_are(bus: Bus) -> int | None:
    """The partition of the replica's records; its key leads all of them to one."""
    return next((n for n, end in bus.end_offsets(PREDICTIONS).items() if end), None)


def read(bus: Bus, topic: str, count: int) -> list[Message]:
    found: list[Message] = []
    deadline = time.monotonic() + WAIT_S
    with closing(bus.consumer()) as consumer:
        consumer.assign({(topic, number): -1 for number in bus.partitions(topic)})
        while len(found) < count and time.monotonic() < deadline:
            found += consumer.poll(1.0)
    return found


def until(look, message: str):
    """What `look` gives once it is neither false nor None; a cluster between two leaders is asked
    again."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            found = look()
        except RetryLater:
            found = None
        if found is not None and found is not False:
            return found
        time.sleep(0.1)
    raise AssertionError(message)
