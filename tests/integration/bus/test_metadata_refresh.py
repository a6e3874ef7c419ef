"""What kafka-python does when its look for the partitions' leaders goes wrong."""

import threading
from contextlib import closing
from typing import Any

import pytest
from kafka.protocol.metadata import MetadataRequest

from driftloop_bus.kafka_bus import KafkaBus
from kafka import KafkaProducer

pytestmark = pytest.mark.integration


def test_a_connection_that_is_reset_does_not_end_the_look_for_leaders(kafka_bus: KafkaBus) -> None:
    with closing(KafkaProducer(**kafka_bus._connection)) as producer:
        cluster = producer._metadata
        manager = cluster._manager
        send, reset = manager.send, threading.Event()

        def broken(request: Any, *arguments: Any, **named: Any) -> Any:
            if not isinstance(request, MetadataRequest):
                return send(request, *arguments, **named)
            manager.send = send
            reset.set()
            raise ConnectionResetError("while TLS begins")

        manager.send = broken
        cluster.request_update()
        assert reset.wait(20)
        # The first may be the look that failed.
        assert any(has_looked(cluster) for _ in range(10))


def has_looked(cluster: Any) -> bool:
    over = threading.Event()
    look = cluster.request_update().add_both(lambda _: over.set())
    over.wait(2)
    return bool(look.succeeded())
