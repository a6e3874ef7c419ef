"""The bus on Apache Kafka, with kafka-python.

Delivery: a producer never gives up on a record. Batches do not expire, so a broker that is
unavailable for an hour delays records but neither loses nor reorders them (an expired batch would
be overtaken by the next). Callers bound the memory, since they see what is unacknowledged. A
permanent refusal (a record too large for its topic, a timestamp too far from the cluster's clock, a
revoked permission) breaks the producer; the library would instead continue with the following
records, or fail all of them until the process ends.
"""

import contextlib
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import structlog
from kafka.admin import ConfigResource

from driftloop_bus.kafka_connection import (
    BESIDE_VALUE_BYTES,
    LARGEST_BATCH_BYTES,
    RECORD_BYTES,
    TOO_LARGE,
    connection_options,
    translated,
)
from driftloop_bus.kafka_consumers import KafkaBusConsumer, KafkaBusMember
from driftloop_bus.port import BATCH_BYTES, MAX_VALUE_BYTES
from driftloop_contracts.errors import DriftloopError, NotFound, Rejected, RetryLater
from driftloop_settings import KafkaSettings
from kafka import KafkaAdminClient, KafkaProducer, OffsetSpec, TopicPartition
from kafka import errors as kafka_errors

log = structlog.get_logger()

_CONNECT_MS = 3_000
_ADMIN_TIMEOUT_MS = 10_000
_FOREVER_MS = 2**31 - 1
_CLOSE_S = 5.0
_LARGEST = "max.message.bytes"


class KafkaBus:
    """A cluster at `bootstrap` (host:port, comma-separated). Connects on first use."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._connection = connection_options(bootstrap, settings)

    def ensure_topics(
        self, topics: Sequence[str], *, partitions: int, retention_hours: int
    ) -> None:
        with self._admin() as admin:
            missing = set(topics) - set(admin.list_topics())
            if not missing:
                return
            configs = {
                "retention.ms": str(retention_hours * 3_600_000),
                "max.message.bytes": str(LARGEST_BATCH_BYTES),
            }
            wanted = {
                # -1: the cluster's own default; 1 on the local broker, 3 on most clusters.
                t: {"num_partitions": partitions, "replication_factor": -1, "configs": configs}
                for t in sorted(missing)
            }
            answer = admin.create_topics(wanted, raise_errors=False)
            for topic in answer["topics"]:
                error = kafka_errors.for_code(topic["error_code"])
                if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
                    raise translated(error(f"topic {topic['name']}: {topic['error_message']}"))
            admin.wait_for_topics(list(wanted))
            log.info("bus.topics_created", topics=sorted(missing), partitions=partitions)

    def topics(self) -> list[str]:
        """Return the names of the topics, without Kafka's internal ones. Raises RetryLater."""
        with self._admin() as admin:
            return sorted(name for name in admin.list_topics() if not name.startswith("__"))

    def version(self) -> str:
        """Return the cluster's version, as far as its protocol reveals it. Raises RetryLater."""
        with self._admin() as admin:
            return ".".join(str(part) for part in admin._manager.broker_version)

    def partitions(self, topic: str) -> list[int]:
        with self._admin() as admin:
            return _partitions(admin, topic)

    def end_offsets(self, topic: str) -> dict[int, int]:
        with self._admin() as admin:
            places = [TopicPartition(topic, number) for number in _partitions(admin, topic)]
            found = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
            return {place.partition: found[place].offset for place in places}

    def max_value_bytes(self, topic: str) -> int:
        with self._admin() as admin:
            _partitions(admin, topic)  # Kafka would return its defaults for a missing topic
            wanted = ConfigResource("topic", topic, {_LARGEST: None})
            found = admin.describe_configs([wanted], config_filter="all")
            try:
                limit = int(found["topic"][topic][_LARGEST]["value"])
            except (KeyError, TypeError, ValueError):
                raise RetryLater(f"the cluster does not say what {topic} takes") from None
        return min(MAX_VALUE_BYTES, limit - BESIDE_VALUE_BYTES)

    def producer(self, batch_bytes: int = BATCH_BYTES) -> "KafkaBusProducer":
        return KafkaBusProducer(self._connection, batch_bytes)

    def consumer(self) -> "KafkaBusConsumer":
        return KafkaBusConsumer(self._connection)

    def member(
        self, group: str, topics: Sequence[str], instance: str | None = None
    ) -> KafkaBusMember:
        return KafkaBusMember(self._connection, group, topics, instance)

    @contextlib.contextmanager
    def _admin(self) -> Any:
        # One client per call: metadata is rarely needed, and no client is left with dead
        # connections.
        try:
            admin = KafkaAdminClient(
                **self._connection,
                request_timeout_ms=_ADMIN_TIMEOUT_MS,
                bootstrap_timeout_ms=_CONNECT_MS,
            )
            try:
                yield admin
            finally:
                admin.close()
        except (kafka_errors.KafkaError, OSError) as error:
            raise translated(error) from error


class KafkaBusProducer:
    """Idempotent, acks=all. Records with the same key stay in order, even if the broker fails."""

    def __init__(self, connection: Mapping[str, Any], batch_bytes: int) -> None:
        self._connection = connection
        self._batch_bytes = batch_bytes
        self._queue: queue.SimpleQueue[_Outgoing | None] = queue.SimpleQueue()
        self._unacknowledged: set[Future[tuple[int, int]]] = set()
        self._settled = threading.Condition()
        self._broken: DriftloopError | None = None
        self._too_large_for: str | None = None
        self._closed = False
        self._ended = threading.Event()  # broken or closed
        self._thread = threading.Thread(target=self._pump, daemon=True, name="kafka-producer")
        self._thread.start()

    @property
    def broken(self) -> bool:
        return self._broken is not None

    @property
    def too_large_for(self) -> str | None:
        return self._too_large_for

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Future[tuple[int, int]]:
        future: Future[tuple[int, int]] = Future()
        if len(value) > MAX_VALUE_BYTES:
            future.set_exception(Rejected(f"a record of {len(value)} bytes is too large"))
            return future
        with self._settled:
            if self._closed:
                raise RetryLater("this producer is closed")
            self._unacknowledged.add(future)
            self._queue.put((topic, value, key, list(headers), future))
        return future

    def flush(self, timeout_s: float) -> None:
        with self._settled:
            if not self._settled.wait_for(lambda: not self._unacknowledged, timeout_s):
                raise RetryLater(f"{len(self._unacknowledged)} records are not acknowledged yet")

    def close(self) -> None:
        """Continue to deliver for a few seconds; records that are not acknowledged by then fail
        with RetryLater."""
        with contextlib.suppress(RetryLater):
            self.flush(_CLOSE_S)
        with self._settled:
            self._closed = True
            self._ended.set()
            self._queue.put(None)
        self._thread.join()
        for future in list(self._unacknowledged):
            self._settle(future, error=RetryLater("the producer closed before delivery"))

    def _pump(self) -> None:
        producer: Any = None
        while (item := self._queue.get()) is not None:
            topic, value, key, headers, future = item
            while not self._ended.is_set():
                try:
                    producer = producer or self._connect()
                    sent = producer.send(topic, value, key=key, headers=headers)
                except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError):
                    # No broker or topic yet. Retry in place, so that later records do not overtake
                    # this one.
                    log.warning("bus.send_waits", topic=topic, bootstrap=self._bootstrap)
                    self._ended.wait(0.2)
                except Exception as error:
                    refused = translated(error)
                    if isinstance(refused, Rejected):
                        self._settle(future, error=refused)
                    else:
                        self._break(producer, topic, error)
                    break
                else:
                    sent.add_callback(self._acknowledged, future)
                    sent.add_errback(self._failed, producer, topic, future)
                    break
            if self._broken:
                self._settle(future, error=self._broken)
        if producer is not None:
            _end(producer)

    @property
    def _bootstrap(self) -> str:
        return str(self._connection["bootstrap_servers"])

    def _connect(self) -> Any:
        return KafkaProducer(
            **self._connection,
            bootstrap_timeout_ms=_CONNECT_MS,
            enable_idempotence=True,
            acks="all",
            delivery_timeout_ms=_FOREVER_MS,
            request_timeout_ms=10_000,
            max_block_ms=_CONNECT_MS,
            allow_auto_create_topics=False,
            batch_size=self._batch_bytes,
            linger_ms=5,
            compression_type="zstd",
            max_request_size=RECORD_BYTES,
            metrics_enabled=False,
        )

    def _acknowledged(self, future: Future[tuple[int, int]], sent: Any) -> None:
        self._settle(future, place=(sent.partition, sent.offset))

    def _failed(
        self, producer: Any, topic: str, future: Future[tuple[int, int]], error: Exception
    ) -> None:
        """In the library's thread, which has not sent anything since."""
        self._settle(future, error=self._break(producer, topic, error))

    def _break(self, producer: Any, topic: str, error: Exception) -> DriftloopError:
        if self._broken is None:
            self._too_large_for = topic if isinstance(error, TOO_LARGE) else None
            log.error("bus.producer_broke", error=repr(error))
            self._broken = RetryLater(f"Kafka refuses a record: {error!r}")
            self._ended.set()
            if producer is not None:
                producer._sender.force_close()
        return self._broken

    def _settle(
        self,
        future: Future[tuple[int, int]],
        *,
        place: tuple[int, int] | None = None,
        error: DriftloopError | None = None,
    ) -> None:
        with self._settled:
            if future.done():
                return
            if place is not None:
                future.set_result(place)
            else:
                future.set_exception(error)
            self._unacknowledged.discard(future)
            self._settled.notify_all()


def _end(producer: Any) -> None:
    with contextlib.suppress(kafka_errors.KafkaError):
        producer.close(timeout=1.0)
    # With unacknowledged records, `close` leaves its thread running (kafka-python 3.0.12).
    producer._sender.force_close()


_Outgoing = tuple[str, bytes, bytes | None, list[tuple[str, bytes]], "Future[tuple[int, int]]"]


def _partitions(admin: Any, topic: str) -> list[int]:
    (found,) = admin.describe_topics([topic])
    error = kafka_errors.for_code(found["error_code"])
    if error is kafka_errors.UnknownTopicOrPartitionError:
        raise NotFound(f"topic {topic} does not exist")
    if error is not kafka_errors.NoError:
        raise error(topic)
    return sorted(partition["partition_index"] for partition in found["partitions"])
