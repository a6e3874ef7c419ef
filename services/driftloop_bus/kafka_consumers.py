"""Reading from Apache Kafka, with kafka-python. No offset is kept in Kafka: callers keep their
own."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from driftloop_bus.kafka_connection import BATCH_BYTES, is_passing, translated
from driftloop_bus.port import Message, Movement, Partition
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

log = structlog.get_logger()

_SESSION_MS = 10_000
"""A member that is silent for so long is dead; the broker's least is 6 s."""
_HEARTBEAT_MS = 2_000
_METADATA_MS = 5_000
"""How often it is asked what partitions there are; kafka-python overlooks a request that it
has just been sent."""


class _Connected:
    """Holds a client of kafka-python, from its first use until it is closed."""

    _client: Any = None

    def close(self) -> None:
        if self._client is not None:
            self._client.close(autocommit=False, timeout_ms=2_000)
            self._client = None


class KafkaBusConsumer(_Connected):
    """Reads assigned partitions. For one thread."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._positions: dict[Partition, int] = {}

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._positions = dict(positions)
        if self._client is not None:
            self._seek(self._client)

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        if not self._positions:
            return []
        found = _polled(self._connected, timeout_s, max_messages)
        for message in found:
            self._positions[message.topic, message.partition] = message.offset + 1
        return found

    def _connected(self, timeout_s: float) -> Any:
        if self._client is None:
            client = _client(self._connection, timeout_s, group_id=None)
            self._seek(client)
            self._client = client
        return self._client

    def _seek(self, client: Any) -> None:
        client.assign([TopicPartition(*place) for place in self._positions])
        _seek(client, self._positions)


class _InformedAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Shares out partitions only once it knows of them. kafka-python's own gives nobody one where
    its leader joins before it knows of the topics, and the group stays like that."""

    def assign(self, cluster: Any, members: Any) -> Any:
        for topic in {topic for member in members for topic in member.metadata.topics}:
            if not cluster.partitions_for_topic(topic):
                cluster.request_update()
                # One that may pass: the member joins again.
                raise kafka_errors.UnknownTopicOrPartitionError(topic)
        return super().assign(cluster, members)


class KafkaBusMember(_Connected):
    """Reads what its group leaves to it. Partitions move one by one (cooperative sticky): the
    others are read on while it happens. Heartbeats come from kafka-python's own thread, so the
    caller may take its time between two polls (5 minutes). For one thread."""

    def __init__(
        self,
        connection: Mapping[str, Any],
        group: str,
        topics: Sequence[str],
        instance: str | None,
    ) -> None:
        self._connection = connection
        self._group = {"group_id": group, "group_instance_id": instance}
        self._topics = list(topics)
        self._moves = _Moves()

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        return _polled(self._connected, timeout_s, max_messages)

    def moved(self) -> Movement:
        return self._moves.taken()

    def start(self, positions: Mapping[Partition, int]) -> None:
        for place, offset in positions.items():
            with contextlib.suppress(ValueError, KeyError):  # it went away meanwhile
                _seek(self._client, {place: offset})
                self._client.resume(TopicPartition(*place))

    def _connected(self, timeout_s: float) -> Any:
        if self._client is None:
            client = _client(
                self._connection,
                timeout_s,
                **self._group,
                session_timeout_ms=_SESSION_MS,
                heartbeat_interval_ms=_HEARTBEAT_MS,
                partition_assignment_strategy=(_InformedAssignor,),
            )
            self._moves.client = client
            client.subscribe(self._topics, listener=self._moves)
            self._client = client
        return self._client


class _Moves(ConsumerRebalanceListener):  # type: ignore[misc]
    """What the group did since somebody asked. kafka-python calls it from its own thread, which
    must not wait; so it only notes, and holds what came until its reader knows where to start."""

    def __init__(self) -> None:
        self.client: Any = None
        self._moved = Movement()
        self._lock = threading.Lock()

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        places = list(assigned)
        for place in places:
            # A position, so that nobody asks Kafka for one.
            self.client.seek(place, 0)
        self.client.pause(*places)
        with self._lock:
            self._moved = Movement(self._moved.gone, self._moved.came | _places(places))

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        gone = _places(revoked)
        with self._lock:
            self._moved = Movement(self._moved.gone | gone, self._moved.came - gone)

    def taken(self) -> Movement:
        with self._lock:
            found, self._moved = self._moved, Movement()
        return found


def _client(connection: Mapping[str, Any], timeout_s: float, **more: Any) -> Any:
    return KafkaConsumer(
        **connection,
        **more,
        bootstrap_timeout_ms=max(100, int(timeout_s * 1000)),
        enable_auto_commit=False,
        # A position that is gone (retention, or another cluster) reads from the earliest there
        # is: readers drop what they already have.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=BATCH_BYTES,
        request_timeout_ms=10_000,
        metadata_max_age_ms=_METADATA_MS,
        metrics_enabled=False,
    )


def _polled(
    connected: Callable[[float], Any], timeout_s: float, max_messages: int
) -> list[Message]:
    deadline = time.monotonic() + timeout_s
    try:
        client = connected(timeout_s)
        left_ms = max(0, int((deadline - time.monotonic()) * 1000))
        batches = client.poll(timeout_ms=left_ms, max_records=max_messages)
    except (kafka_errors.KafkaError, OSError) as error:
        if not is_passing(error):
            raise translated(error) from error
        log.warning("bus.poll_waits", error=repr(error))
        time.sleep(max(0.0, min(deadline - time.monotonic(), 0.5)))
        return []
    return [_message(record) for records in batches.values() for record in records]


def _seek(client: Any, positions: Mapping[Partition, int]) -> None:
    for place, offset in positions.items():
        if offset < 0:
            client.seek_to_beginning(TopicPartition(*place))
        else:
            client.seek(TopicPartition(*place), offset)


def _places(partitions: Iterable[Any]) -> frozenset[Partition]:
    return frozenset((p.topic, p.partition) for p in partitions)


def _message(record: Any) -> Message:
    return Message(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        list(record.headers),
        record.timestamp,
    )
