"""The bus on Apache Kafka, with kafka-python.

Delivery: a producer never gives a record up by itself. Batches do not expire, so a broker that is
away for an hour delays records and neither loses nor reorders them (a batch that expired would be
overtaken by the one behind it). Memory is bounded by the caller, who sees what is unacknowledged.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import structlog

from driftloop_bus.port import MAX_VALUE_BYTES, Message
from driftloop_contracts.errors import DriftloopError, NotFound, Rejected, RetryLater
from driftloop_settings.settings import KafkaSettings
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetSpec, TopicPartition
from kafka import errors as kafka_errors

log = structlog.get_logger()

_RECORD_BYTES = MAX_VALUE_BYTES + (256 << 10)
"""A record with its key and headers."""
_BATCH_BYTES = _RECORD_BYTES + (256 << 10)
"""`max.message.bytes` of the topics: Kafka counts a whole batch."""
_CONNECT_MS = 3_000
_ADMIN_TIMEOUT_MS = 10_000
_FOREVER_MS = 2**31 - 1
_CLOSE_S = 5.0


class KafkaBus:
    """A cluster at `bootstrap` (host:port, comma separated). Making it connects to nothing."""

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
                "max.message.bytes": str(_BATCH_BYTES),
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
                    raise _translated(error(f"topic {topic['name']}: {topic['error_message']}"))
            admin.wait_for_topics(list(wanted))
            log.info("bus.topics_created", topics=sorted(missing), partitions=partitions)

    def topics(self) -> list[str]:
        """Names of the topics there are, without Kafka's own; raises RetryLater."""
        with self._admin() as admin:
            return sorted(name for name in admin.list_topics() if not name.startswith("__"))

    def version(self) -> str:
        """The cluster's version as far as its protocol tells it; raises RetryLater."""
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

    def producer(self) -> "KafkaBusProducer":
        return KafkaBusProducer(self._connection)

    def consumer(self) -> "KafkaBusConsumer":
        return KafkaBusConsumer(self._connection)

    @contextlib.contextmanager
    def _admin(self) -> Any:
        # One client a call: metadata is asked rarely, and none is left with dead connections.
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
            raise _translated(error) from error


class KafkaBusProducer:
    """Idempotent, acks=all. Records of one key stay in order, whatever the broker goes through."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[_Outgoing | None] = queue.SimpleQueue()
        self._unacknowledged: set[Future[tuple[int, int]]] = set()
        self._settled = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._pump, daemon=True, name="kafka-producer")
        self._thread.start()

    def send(
        self, topic: str, value: bytes, *, key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Future[tuple[int, int]]:  # fmt: skip
        future: Future[tuple[int, int]] = Future()
        if len(value) > MAX_VALUE_BYTES:
            future.set_exception(Rejected(f"a record of {len(value)} bytes is too large"))
            return future
        with self._settled:
            if self._closing.is_set():
                raise RetryLater("this producer is closed")
            self._unacknowledged.add(future)
            self._queue.put((topic, value, key, list(headers), future))
        return future

    def flush(self, timeout_s: float) -> None:
        with self._settled:
            if not self._settled.wait_for(lambda: not self._unacknowledged, timeout_s):
                raise RetryLater(f"{len(self._unacknowledged)} records are not acknowledged yet")

    def close(self) -> None:
        """Deliver for a few seconds more; what is not acknowledged then fails with RetryLater."""
        with contextlib.suppress(RetryLater):
            self.flush(_CLOSE_S)
        with self._settled:
            self._closing.set()
            self._queue.put(None)
        self._thread.join()
        for future in list(self._unacknowledged):
            self._settle(future, error=RetryLater("the producer closed before delivery"))

    def _pump(self) -> None:
        producer: Any = None
        while (item := self._queue.get()) is not None:
            topic, value, key, headers, future = item
            while not self._closing.is_set():
                try:
                    producer = producer or self._connect()
                    sent = producer.send(topic, value, key=key, headers=headers)
                except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError):
                    # No broker yet, or no such topic yet. Later records must not overtake it.
                    log.warning("bus.send_waits", topic=topic, bootstrap=self._bootstrap)
                    self._closing.wait(0.2)
                except Exception as error:
                    self._settle(future, error=_translated(error))
                    break
                else:
                    sent.add_callback(self._acknowledged, future)
                    sent.add_errback(self._failed, future)
                    break
        if producer is not None:
            producer.close(timeout=1.0)

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
            batch_size=256 << 10,
            linger_ms=5,
            compression_type="zstd",
            max_request_size=_RECORD_BYTES,
            metrics_enabled=False,
        )

    def _acknowledged(self, future: Future[tuple[int, int]], sent: Any) -> None:
        self._settle(future, place=(sent.partition, sent.offset))

    def _failed(self, future: Future[tuple[int, int]], error: Exception) -> None:
        log.error("bus.send_failed", error=repr(error))
        self._settle(future, error=_translated(error))

    def _settle(
        self,
        future: Future[tuple[int, int]],
        *,
        place: tuple[int, int] | None = None,
        error: DriftloopError | None = None,
    ) -> None:
        if future.done():
            return
        if place is not None:
            future.set_result(place)
        else:
            future.set_exception(error)
        with self._settled:
            self._unacknowledged.discard(future)
            self._settled.notify_all()


_Outgoing = tuple[str, bytes, bytes | None, list[tuple[str, bytes]], "Future[tuple[int, int]]"]


class KafkaBusConsumer:
    """Reads assigned partitions; keeps no offsets in Kafka. For one thread."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._positions: dict[tuple[str, int], int] = {}
        self._client: Any = None

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._positions = dict(positions)
        if self._client is not None:
            self._seek()

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        deadline = time.monotonic() + timeout_s
        if not self._positions:
            return []
        try:
            if self._client is None:
                self._client = self._connect(timeout_s)
                self._seek()
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            batches = self._client.poll(timeout_ms=left_ms, max_records=max_messages)
        except (kafka_errors.KafkaError, OSError) as error:
            if not _is_passing(error):
                raise _translated(error) from error
            log.warning("bus.poll_waits", error=repr(error))
            time.sleep(max(0.0, min(deadline - time.monotonic(), 0.5)))
            return []
        found = [_message(record) for records in batches.values() for record in records]
        for message in found:
            self._positions[message.topic, message.partition] = message.offset + 1
        return found

    def close(self) -> None:
        if self._client is not None:
            self._client.close(autocommit=False, timeout_ms=2_000)
            self._client = None

    def _connect(self, timeout_s: float) -> Any:
        return KafkaConsumer(
            **self._connection,
            bootstrap_timeout_ms=max(100, int(timeout_s * 1000)),
            group_id=None,
            enable_auto_commit=False,
            # A position that is gone (retention, or another cluster) reads from the earliest there
            # is: readers drop what they already have.
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_BATCH_BYTES,
            request_timeout_ms=10_000,
            metrics_enabled=False,
        )

    def _seek(self) -> None:
        places = {TopicPartition(*place): offset for place, offset in self._positions.items()}
        self._client.assign(list(places))
        for place, offset in places.items():
            if offset < 0:
                self._client.seek_to_beginning(place)
            else:
                self._client.seek(place, offset)


def connection_options(bootstrap: str, settings: KafkaSettings) -> dict[str, Any]:
    """kafka-python's options for reaching a cluster, TLS and SASL from the settings included."""
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "security_protocol": settings.security_protocol,
        "ssl_cafile": settings.ssl_cafile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1_000,
    }
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password
        options |= {
            "sasl_mechanism": settings.sasl_mechanism or "PLAIN",
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return options


def _partitions(admin: Any, topic: str) -> list[int]:
    (found,) = admin.describe_topics([topic])
    error = kafka_errors.for_code(found["error_code"])
    if error is kafka_errors.UnknownTopicOrPartitionError:
        raise NotFound(f"topic {topic} does not exist")
    if error is not kafka_errors.NoError:
        raise error(topic)
    return sorted(partition["partition_index"] for partition in found["partitions"])


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


def _is_passing(error: Exception) -> bool:
    return isinstance(error, OSError) or bool(getattr(error, "retriable", False))


def _translated(error: Exception) -> DriftloopError:
    refused = (
        kafka_errors.MessageSizeTooLargeError,
        kafka_errors.RecordListTooLargeError,
        kafka_errors.InvalidTopicError,
        ValueError,
        TypeError,
    )
    if isinstance(error, refused):
        return Rejected(f"Kafka refuses the record: {error}")
    return RetryLater(f"Kafka does not answer as it should: {error!r}")
