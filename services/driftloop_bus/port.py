"""The port of the bus: partitioned topics, at-least-once producers, and readers. Offsets are stored
by the callers. A reader is a consumer of given partitions, or a member of a group that shares the
partitions of topics."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

MAX_VALUE_BYTES = 8 << 20
"""The largest value of a record, in bytes; topics, producers and fetches are configured for it."""


BATCH_BYTES = 256 << 10
"""The default number of bytes that a producer sends together."""

Partition = tuple[str, int]
"""A partition: (topic, number)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record that was read. `timestamp_ms`: when the producer sent it, in milliseconds since
    1970."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


class Producer(Protocol):
    """Sends in the background, idempotent, acks=all. Safe to use from several threads.

    A record that the cluster refuses breaks the producer: all unacknowledged records fail, and so
    does everything sent afterwards, because no later record may arrive without the refused one.
    Create a new producer and send the failed records again.
    """

    @property
    def broken(self) -> bool: ...

    @property
    def too_large_for(self) -> str | None:
        """The topic that it broke at, if that is since a record was too large for it."""

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Future[tuple[int, int]]:
        """Queue a record. The future returns (partition, offset) once acknowledged. It raises
        RetryLater if the producer broke or was closed, or Rejected if the value exceeds
        MAX_VALUE_BYTES (which does not affect other records)."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all queued records are acknowledged. Raises RetryLater at the timeout."""

    def close(self) -> None: ...


class Consumer(Protocol):
    """Reads assigned partitions from positions that the caller stores, for example in the lake."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets; -1: from the earliest available."""

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        """Return messages in offset order per partition; empty if there are none within
        `timeout_s`. An unavailable broker is waited for within the timeout, without an error."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Movement:
    """Partitions that a member lost, and those that it got. A partition may be in both: it was lost
    in between, and another member may have read it."""

    gone: frozenset[Partition] = frozenset()
    came: frozenset[Partition] = frozenset()


class Member(Protocol):
    """Reads the partitions that its group assigns to it. A member that dies or hangs loses its
    partitions to others. There is no notice *before* another member may read a lost partition, so
    processing must tolerate that. Use it from one thread."""

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        """As `Consumer.poll`. New partitions are not read before `start`."""

    def moved(self) -> Movement:
        """Return the changes since the last call. Messages returned by `poll` earlier precede
        them."""

    def start(self, positions: Mapping[Partition, int]) -> None:
        """Read new partitions from these offsets; -1: from the earliest available."""

    def close(self) -> None: ...


class Bus(Protocol):
    """One cluster."""

    def ensure_topics(
        self, topics: Sequence[str], *, partitions: int, retention_hours: int
    ) -> None:
        """Create the topics that do not exist. Raises RetryLater while no broker answers."""

    def partitions(self, topic: str) -> list[int]:
        """Return the partition numbers of a topic. Raises NotFound, or RetryLater while no broker
        answers."""

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return for each partition the offset that the next record will get."""

    def max_value_bytes(self, topic: str) -> int:
        """Return the largest value that the topic currently accepts, at most MAX_VALUE_BYTES.
        Raises NotFound, or RetryLater while no broker answers."""

    def producer(self, batch_bytes: int = BATCH_BYTES) -> Producer:
        """batch_bytes: the most that records which are sent together have, unless one alone has
        more. A topic refuses what is sent together as one."""

    def consumer(self) -> Consumer: ...

    def member(self, group: str, topics: Sequence[str], instance: str | None = None) -> Member:
        """Return a new member. With the `instance` of a dead member it takes over that member's
        partitions at once; otherwise they wait until the group notices (about ten seconds)."""
