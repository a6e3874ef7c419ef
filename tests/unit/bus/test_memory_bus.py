"""The fake's own controls; what it shares with Kafka is in tests/contract/test_bus_suite.py."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_bus.memory_bus import MemoryBus
from driftloop_contracts.errors import RetryLater


def test_a_bus_that_is_away_delays_records_and_loses_none() -> None:
    bus = MemoryBus()
    bus.ensure_topics(["t"], partitions=1, retention_hours=1)
    with closing(bus.producer()) as producer, closing(bus.consumer()) as consumer:
        bus.set_away(True)
        future = producer.send("t", b"a")
        consumer.assign({("t", 0): -1})
        assert consumer.poll(0.01) == []
        with pytest.raises(RetryLater):
            producer.flush(0.01)
        with pytest.raises(RetryLater):
            bus.partitions("t")
        bus.set_away(False)
        assert future.result(5) == (0, 0)
        assert [m.value for m in consumer.poll(5)] == [b"a"]


def test_what_a_closed_producer_did_not_deliver_fails() -> None:
    bus = MemoryBus()
    producer = bus.producer()
    future = producer.send("nowhere", b"a")
    producer.close()
    with pytest.raises(RetryLater, match="closed"):
        future.result(0)


@given(st.lists(st.tuples(st.binary(max_size=2), st.binary(max_size=4)), max_size=50))
def test_every_record_is_read_once_and_in_its_keys_order(
    records: list[tuple[bytes, bytes]],
) -> None:
    bus = MemoryBus()
    bus.ensure_topics(["t"], partitions=3, retention_hours=1)
    with closing(bus.producer()) as producer, closing(bus.consumer()) as consumer:
        for key, value in records:
            producer.send("t", value, key=key)
        producer.flush(5)
        consumer.assign({("t", number): -1 for number in range(3)})
        found = consumer.poll(0) if records else []
    assert sum(bus.end_offsets("t").values()) == len(records)
    for key in {key for key, _ in records}:
        mine = [value for k, value in records if k == key]
        assert [m.value for m in found if m.key == key] == mine
