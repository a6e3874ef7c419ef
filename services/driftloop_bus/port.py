"""The port: topics of partitions, at-least-once producers, and readers whose offsets their callers
keep: a consumer of named partitions, or a member of a group that shares the partitions of topics
out."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

MAX_VALUE_BYTES = 8 << 20
"""The largest value a record may have; topics, producers and fetches are set up for it."""


Partition = tuple[str, int]
"""A partition: (topic, number)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record as it was read. `timestamp_ms`: when the producer sent it, since 1970."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


class Producer(Protocol):
    """Sends in the background, idempotent, acks=all. Safe to use from several threads.

    What the cluster refuses breaks a producer: no record that was sent behind it may arrive without
    it, so all that is not acknowledged fails, and so does what is sent from then on. Make another
    one, and send again what failed.
    """

    @property
    def broken(self) -> bool: ...

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Future[tuple[int, int]]:
        """Queue a record. The future gives (partition, offset) once acknowledged, else raises
        RetryLater (the producer broke, or was closed) or Rejected (larger than MAX_VALUE_BYTES; the
        others go on)."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all queued records are acknowledged; raises RetryLater at the timeout."""

    def close(self) -> None: ...


class Consumer(Protocol):
    """Reads assigned partitions from positions that the caller keeps (e.g. in the lake)."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read from these partitions at these offsets; -1: from the earliest there is."""

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        """Messages in offset order per partition; empty after `timeout_s` with none. A broker that
        is away is waited for, within the timeout, without an error."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Movement:
    """Partitions that a member lost, and those it got. One may be in both: it was away in between,
    and another member may have read it."""

    gone: frozenset[Partition] = frozenset()
    came: frozenset[Partition] = frozenset()


class Member(Protocol):
    """Reads the partitions that fall to it while it shares topics with the others of its group. Who
    dies or hangs loses its partitions to them. There is no notice *before* another may read what
    was lost: what a member does with its messages must hold against that. For one thread."""

    def poll(self, timeout_s: float, max_messages: int = 1000) -> list[Message]:
        """As `Consumer.poll`. What came is not read before `start`."""

    def moved(self) -> Movement:
        """What happened since the last call. Messages that `poll` gave before are of the time
        before."""

    def start(self, positions: Mapping[Partition, int]) -> None:
        """Read partitions that came, from these offsets; -1: from the earliest there is."""

    def close(self) -> None: ...


class Bus(Protocol):
    """One cluster."""

    def ensure_topics(
        self, topics: Sequence[str], *, partitions: int, retention_hours: int
    ) -> None:
        """Create the topics that do not exist; raises RetryLater while no broker answers."""

    def partitions(self, topic: str) -> list[int]:
        """Partition numbers of a topic; raises NotFound, or RetryLater while no broker answers."""

    def end_offsets(self, topic: str) -> dict[int, int]:
        """For each partition the offset that the next record will get."""

    def max_value_bytes(self, topic: str) -> int:
        """The largest value that the topic takes as it is set up now, MAX_VALUE_BYTES at most;
        raises NotFound, or RetryLater while no broker answers."""

    def producer(self) -> Producer: ...

    def consumer(self) -> Consumer: ...

    def member(self, group: str, topics: Sequence[str], instance: str | None = None) -> Member:
        """A new member. One that comes with the `instance` of one that died takes its partitions
        over at once; without, they wait until the group has noticed (about ten seconds)."""
