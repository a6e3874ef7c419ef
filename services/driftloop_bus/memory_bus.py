"""A bus in the memory of this process: the semantics of the port without a broker, for tests and
experiments."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from zlib import crc32

from driftloop_bus.memory_group import Group
from driftloop_bus.port import BATCH_BYTES, MAX_VALUE_BYTES, Message, Movement, Partition
from driftloop_contracts.errors import NotFound, Rejected, RetryLater

_BROKEN = "the topic refuses a record: it is too large"


@dataclass
class MemoryBus:
    """One cluster, shared by all producers and consumers of this object.

    While `away`, it behaves like a cluster that does not answer: sends stay queued, polls return
    nothing, and metadata calls raise RetryLater.
    """

    _topics: dict[str, list[list[Message]]] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _away: bool = False
    _groups: dict[str, Group] = field(default_factory=dict)
    _limits: dict[str, int] = field(default_factory=dict)

    def set_away(self, away: bool) -> None:
        """Make the cluster unavailable, or available again."""
        with self._changed:
            self._away = away
            self._changed.notify_all()

    def set_max_value_bytes(self, topic: str, limit: int) -> None:
        """Make the topic refuse larger values from now on."""
        with self._changed:
            self._limits[topic] = limit

    def ensure_topics(
        self, topics: Sequence[str], *, partitions: int, retention_hours: int
    ) -> None:
        del retention_hours  # memory keeps everything
        with self._changed:
            self._answer()
            for topic in topics:
                self._topics.setdefault(topic, [[] for _ in range(partitions)])
            self._changed.notify_all()

    def partitions(self, topic: str) -> list[int]:
        with self._changed:
            return list(range(len(self._log(topic))))

    def end_offsets(self, topic: str) -> dict[int, int]:
        with self._changed:
            return {number: len(log) for number, log in enumerate(self._log(topic))}

    def max_value_bytes(self, topic: str) -> int:
        with self._changed:
            self._log(topic)
            return self._limits.get(topic, MAX_VALUE_BYTES)

    def producer(self, batch_bytes: int = BATCH_BYTES) -> "MemoryProducer":
        del batch_bytes  # each record is delivered by itself
        return MemoryProducer(self)

    def consumer(self) -> "MemoryConsumer":
        return MemoryConsumer(self)

    def member(
        self, group: str, topics: Sequence[str], instance: str | None = None
    ) -> "MemoryMember":
        with self._changed:
            return MemoryMember(self, self._groups.setdefault(group, Group()), topics, instance)

    def expel(self, member: "MemoryMember") -> None:
        """Give a member's partitions to others without its knowledge, as a cluster does after
        missing heartbeats. The member notices at its next poll, and joins again."""
        with self._changed:
            member._group.leave(member._name)
            self._changed.notify_all()

    def _answer(self) -> None:
        if self._away:
            raise RetryLater("the bus does not answer")

    def _log(self, topic: str) -> list[list[Message]]:
        self._answer()
        if topic not in self._topics:
            raise NotFound(f"topic {topic} does not exist")
        return self._topics[topic]


@dataclass
class _Queued:
    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    future: Future[tuple[int, int]]


class MemoryProducer:
    """Delivers from a thread, in order. Records wait while the cluster or the topic is missing."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._queue: list[_Queued] = []
        self._closed = False
        self.broken = False
        self.too_large_for: str | None = None
        self._thread = threading.Thread(target=self._deliver, daemon=True, name="memory-producer")
        self._thread.start()

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
        with self._bus._changed:
            if self._closed:
                raise RetryLater("this producer is closed")
            if self.broken:
                future.set_exception(RetryLater(_BROKEN))
                return future
            self._queue.append(_Queued(topic, key, value, list(headers), future))
            self._bus._changed.notify_all()
        return future

    def flush(self, timeout_s: float) -> None:
        with self._bus._changed:
            if not self._bus._changed.wait_for(lambda: not self._queue, timeout_s):
                raise RetryLater(f"{len(self._queue)} records are not acknowledged yet")

    def close(self) -> None:
        with self._bus._changed:
            self._closed = True
            self._bus._changed.notify_all()
        self._thread.join()
        self._fail_all("the producer closed before delivery")

    def _fail_all(self, reason: str) -> None:
        for record in self._queue:
            record.future.set_exception(RetryLater(reason))
        with self._bus._changed:
            self._queue.clear()
            self._bus._changed.notify_all()

    def _deliverable(self) -> bool:
        bus = self._bus
        return bool(self._queue) and not bus._away and self._queue[0].topic in bus._topics

    def _deliver(self) -> None:
        while True:
            with self._bus._changed:
                self._bus._changed.wait_for(lambda: self._closed or self._deliverable())
                if not self._deliverable():
                    return
                record = self._queue[0]
                if len(record.value) > self._bus._limits.get(record.topic, MAX_VALUE_BYTES):
                    self.broken, self.too_large_for = True, record.topic
                    break
                log = self._bus._topics[record.topic]
                number = crc32(record.key or b"") % len(log)
                offset = len(log[number])
                log[number].append(
                    Message(
                        record.topic,
                        number,
                        offset,
                        record.key,
                        record.value,
                        record.headers,
                        time.time_ns() // 1_000_000,
                    )
                )
            # Outside the lock, because callbacks may send again; before removal from the queue,
            # because flush waits for the futures.
            record.future.set_result((number, offset))
            with self._bus._changed:
                self._queue.pop(0)
                self._bus._changed.notify_all()
        self._fail_all(_BROKEN)


class MemoryConsumer:
    """Reads the shared logs from its own positions."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._positions: dict[Partition, int] = {}

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._positions = {place: max(0, offset) for place, offset in positions.items()}

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        with self._bus._changed:
            self._bus._changed.wait_for(lambda: bool(self._ready(1)), timeout_s)
            found = self._ready(max_messages)
        for message in found:
            self._positions[message.topic, message.partition] = message.offset + 1
        return found

    def close(self) -> None:
        self._positions = {}

    def _ready(self, limit: int) -> list[Message]:
        found: list[Message] = []
        for (topic, number), offset in self._positions.items():
            logs = [] if self._bus._away else self._bus._topics.get(topic, [])
            if number < len(logs):
                # As in Kafka, an offset that does not exist is replaced by the earliest.
                start = offset if offset <= len(logs[number]) else 0
                found.extend(logs[number][start : start + limit - len(found)])
        return found


class MemoryMember:
    """Reads the partitions assigned by its `Group`, with its own consumer."""

    def __init__(
        self, bus: MemoryBus, group: Group, topics: Sequence[str], instance: str | None
    ) -> None:
        self._bus = bus
        self._group = group
        self._topics = topics
        self._name = group.join(instance)
        self._consumer = MemoryConsumer(bus)
        self._moved = Movement()

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        with self._bus._changed:
            self._settle()
        return self._consumer.poll(timeout_s, max_messages)

    def moved(self) -> Movement:
        found, self._moved = self._moved, Movement()
        return found

    def start(self, positions: Mapping[Partition, int]) -> None:
        started = {place: max(0, offset) for place, offset in positions.items()}
        self._consumer._positions.update(started)

    def close(self) -> None:
        with self._bus._changed:
            self._group.leave(self._name)
            self._bus._changed.notify_all()
        self._consumer.close()

    def _settle(self) -> None:
        if self._bus._away:
            return
        topics = [topic for topic in self._topics if topic in self._bus._topics]
        places = [(t, n) for t in topics for n in range(len(self._bus._topics[t]))]
        now = self._group.settle(self._name, places)
        for place in now.gone:
            self._consumer._positions.pop(place, None)
        self._moved = Movement(
            self._moved.gone | now.gone, (self._moved.came - now.gone) | now.came
        )
