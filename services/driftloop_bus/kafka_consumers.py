"""Reads from Apache Kafka, with kafka-python. Offsets are stored by the callers, not in Kafka."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from driftloop_bus.kafka_connection import LARGEST_BATCH_BYTES, is_passing, translated
from driftloop_bus.port import Message, Movement, Partition
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

log = structlog.get_logger()

_SESSION_MS = 10_000
"""A member is considered dead after this time without a heartbeat; brokers require at least 6 s."""
_HEARTBEAT_MS = 2_000
_METADATA_MS = 5_000
"""How often the list of partitions is refreshed; kafka-python ignores a refresh request that
follows another immediately."""


class _Connected:
    """Holds a client of kafka-python from first use until it is closed."""

    _client: Any = None

    def close(self) -> None:
        if self._client is not None:
            self._client.close(autocommit=False, timeout_ms=2_000)
            self._client = None


class KafkaBusConsumer(_Connected):
    """Reads assigned partitions. Use it from one thread."""

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
    """Assigns partitions only once their topics are known. kafka-python's own assignor assigns none
    if its leader joins before it knows the topics, and the group stays in that state."""

    def assign(self, cluster: Any, members: Any) -> Any:
        for topic in {topic for member in members for topic in member.metadata.topics}:
            if not cluster.partitions_for_topic(topic):
                cluster.request_update()
                # A retriable error: the member joins again.
                raise kafka_errors.UnknownTopicOrPartitionError(topic)
        return super().assign(cluster, members)


class KafkaBusMember(_Connected):
    """Reads the partitions assigned by its group. Partitions move individually (cooperative
    sticky); reading of the others continues meanwhile. Heartbeats are sent by kafka-python's own
    thread, so the caller may take up to 5 minutes between two polls. Use it from one thread."""

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
            with contextlib.suppress(ValueError, KeyError):  # it was revoked meanwhile
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
    """Records the group's assignments until they are read. kafka-python calls it from its own
    thread, which must not block; so it only records them, and pauses new partitions until the
    reader sets their start positions."""

    def __init__(self) -> None:
        self.client: Any = None
        self._moved = Movement()
        self._lock = threading.Lock()

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        places = list(assigned)
        for place in places:
            # Set any position, so that kafka-python does not fetch one from Kafka.
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
        # If the position no longer exists (retention, or another cluster), read from the earliest
        # offset: readers ignore records that they already have.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=LARGEST_BATCH_BYTES,
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
