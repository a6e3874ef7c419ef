"""The archiver: Kafka → lake, exactly once, by up to as many archivers as there are partitions.

Delivery order: read → append to the lake, whose commit carries the Kafka offset → read on. Nothing
is committed to Kafka; after a restart the position is read from the lake (`driftloop_lake.writer`),
so a kill at any moment neither loses nor duplicates records. Invalid records are written to the
lake's `dead_letters` and never stop the flow. Memory holds at most `lake.flush_rows` rows (after a
slow flush `MOST_ROWS`) or `BUFFER_BYTES`, plus one poll.

The archivers of a lake form a consumer group. Kafka assigns the partitions, but with a delay: an
archiver that hung may still hold rows that another has archived meanwhile. The group only
distributes the work; duplicates are prevented by the lake's fence alone.
"""

import itertools
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from threading import Event

import structlog

from driftloop_bus.port import Bus, Member
from driftloop_bus.port import Partition as Partition
from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.errors import NotFound, RetryLater, Unavailable
from driftloop_contracts.event_times import Bounds
from driftloop_contracts.events import LABELS, PREDICTIONS
from driftloop_contracts.health import Health, Unreported
from driftloop_lake.conditional_writes import require_conditional_writes
from driftloop_lake.records import DeadLetter, LabelRecord, LakeRecord, PredictionRecord
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_monitoring.archive.known_models import KnownModels
from driftloop_monitoring.archive.lake_maintenance import kept, pinned
from driftloop_monitoring.archive.store_retention import EVERY_S, StoreRetention
from driftloop_settings import LakeSettings, Settings
from driftloop_settings.instance_lock import locked_instance
from driftloop_settings.this_process import ThisProcess

log = structlog.get_logger()

TOPICS = (PREDICTIONS, LABELS)
FIRST = (PREDICTIONS, 0)
BUFFER_BYTES = 64 << 20
POLL_MESSAGES = 1_000
RETRY_S = 1.0
SLOW_S, MOST_REST_S = 1.0, 60.0
MOST_ROWS = 500_000
"""The most rows and labels that wait for a slow flush, or for enough of each table."""
ROWS_OF_A_TABLE = 5_000
"""A commit takes the time of some thousand rows: with many tables `lake.flush_rows` would be few
for each."""
SUSPECT_AFTER = 30
"""The number of attempts to write a batch after which its records are tried one by one."""


def run(settings: Settings, stop: Event) -> None:
    """Archive until `stop` is set, then flush the records in memory."""
    from driftloop_bus import connect
    from driftloop_lake.delta_lake import open_lake
    from driftloop_store import await_store
    from driftloop_store.cycle_health import SILENCE_S, CycleHealth

    bus, lake, leads = connect(settings), open_lake(settings), Event()
    writer = lake.writer()
    with locked_instance(settings.state_dir / "archiver") as instance, ExitStack() as stack:
        store = await_store(settings.store_url, stop)
        if store is None:
            return
        stack.callback(store.close)
        known = KnownModels(store.known_models)
        upkeep = lake.upkeep(settings.lake, lambda: pinned(store))
        process = ThisProcess.of(settings)
        health = CycleHealth(store, "archiver", silence_s=SILENCE_S, process=process)
        stack.callback(health.ended)
        upkeep_health = CycleHealth(store, "archiver/upkeep")
        stack.enter_context(kept(upkeep, leads.is_set, health=upkeep_health))
        forgetting = CycleHealth(store, "archiver/retention")
        retention = StoreRetention(store, settings.store.retention_days)
        stack.enter_context(kept(retention, leads.is_set, every_s=EVERY_S, health=forgetting))
        while not stop.is_set():
            try:
                require_conditional_writes(settings.lake_uri)
                bus.ensure_topics(
                    TOPICS,
                    partitions=settings.kafka.partitions,
                    retention_hours=settings.kafka.retention_hours,
                )
                # The group belongs to the lake: several lakes may be filled from one Kafka.
                group = f"driftloop-archiver-{writer.lake_id()}"
                with closing(bus.member(group, TOPICS, instance)) as member:
                    Archiver(bus, member, writer, settings.lake, known, leads, health=health).run(
                        stop
                    )
            except (RetryLater, NotFound, Unavailable) as error:
                # Records that were read but not flushed are read again; the lake ignores those it
                # has.
                health.failed(error)
                stop.wait(RETRY_S)
            finally:
                leads.clear()


@dataclass(slots=True)
class Buffer:
    """Records that were read but are not in the lake yet. `since`: when the first was read."""

    records: list[LakeRecord] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    rows: int = 0
    value_bytes: int = 0
    since: float = 0.0

    def add(self, record: LakeRecord, now: float) -> None:
        self.since = self.since if self.records else now
        self.records.append(record)
        match record:
            case PredictionRecord():
                self.rows += record.headers.rows
                self.models.add(record.headers.model)
            case LabelRecord():
                self.rows += len(record.labels)
            case _:
                self.rows += 1
        self.value_bytes += len(record.origin.value)

    @property
    def full(self) -> bool:
        return self.value_bytes >= BUFFER_BYTES

    def due(self, settings: LakeSettings, now: float) -> bool:
        enough = max(settings.flush_rows, min(MOST_ROWS, ROWS_OF_A_TABLE * len(self.models)))
        return bool(self.records) and (
            self.rows >= enough or self.full or now - self.since >= settings.flush_seconds
        )

    def without(self, partitions: Iterable[Partition]) -> "Buffer":
        """Return the records that remain after these partitions were assigned to another member."""
        gone, kept = frozenset(partitions), Buffer()
        for record in self.records:
            place = record.origin.place
            if (place.topic, place.partition) not in gone:
                kept.add(record, self.since)
        return kept


class Archiver:
    """The loop of one group member. `known`: whether a model was ever deployed; `leads`: set while
    this is the lake's archiver with the first partition; `monotonic`: a clock in seconds, used to
    schedule flushes."""

    def __init__(
        self,
        bus: Bus,
        member: Member,
        writer: LakeWriter,
        settings: LakeSettings,
        known: Callable[[str], bool],
        leads: Event,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Clock = system_clock,
        health: Health | None = None,
    ) -> None:
        self._health = health or Unreported()
        self._bus = bus
        self._member = member
        self._writer = writer
        self._settings = settings
        self._known = known
        self._leads = leads
        self._monotonic = monotonic
        self._clock = clock
        self._buffer = Buffer()
        self._took_s = self._rested_at = 0.0

    def run(self, stop: Event) -> None:
        """Archive until `stop` is set; then flush the rows in memory with a single attempt."""
        while not stop.is_set():
            self.step(stop)
            if not self._buffer.records:  # waiting records may be ones that the lake refuses
                self._health.succeeded()
        if self._buffer.records:
            self._flush(stop)

    def step(self, stop: Event) -> None:
        """Poll once, apply changes of the group's assignment, and flush if it is due."""
        bounds = Bounds.at(self._clock())
        messages = self._member.poll(self._settings.flush_seconds / 4, POLL_MESSAGES)
        for message in messages:
            self._buffer.add(self._refused(read_record(message, bounds)), self._monotonic())
        # After the messages, because those just read may belong to a lost partition.
        moved = self._member.moved()
        if moved.gone:
            if FIRST in moved.gone:
                self._leads.clear()
            self._let_go(moved.gone)
        if moved.came:
            self._member.start(positions(self._bus, self._writer, moved.came))
            if FIRST in moved.came:
                self._leads.set()
        now = self._monotonic()
        behind = len(messages) >= POLL_MESSAGES
        if self._buffer.due(self._settings, now) and not self._waits(now, behind):
            self._flush(stop)

    def _waits(self, now: float, behind: bool) -> bool:
        """Whether the next flush waits for more records. With hundreds of tables one takes seconds,
        because each gets a commit: it then waits as long, and takes what Kafka has meanwhile."""
        if self._buffer.full or self._buffer.rows >= MOST_ROWS:
            return False
        return now < self._rested_at or (behind and self._took_s >= SLOW_S)

    def _refused(self, record: LakeRecord) -> LakeRecord:
        if isinstance(record, PredictionRecord) and not self._known(record.headers.model):
            return DeadLetter(record.origin, f"no model {record.headers.model!r} was ever deployed")
        return record

    def _let_go(self, partitions: frozenset[Partition]) -> None:
        """Archive the records read from lost partitions, so that the next owner need not read them
        again. If that fails, it must."""
        try:
            self._write()
        except RetryLater as error:
            log.warning("archiver.left_unflushed", reason=str(error))
            self._buffer = self._buffer.without(partitions)
        log.info("archiver.left", partitions=_names(partitions))

    def _flush(self, stop: Event) -> None:
        """Write until it succeeds; while the lake is unavailable, reading pauses. A record that
        prevents writing although the lake accepts others becomes a dead letter."""
        for attempt in itertools.count(1):
            try:
                return self._write() if attempt % SUSPECT_AFTER else self._write_one_by_one()
            except RetryLater as error:
                self._health.failed(error)
                if stop.wait(RETRY_S):
                    return

    def _write(self) -> None:
        if not self._buffer.records:
            return
        started = self._monotonic()
        appended = self._writer.append(self._buffer.records)
        self._buffer = Buffer()
        ended = self._monotonic()
        self._took_s = ended - started
        self._rested_at = ended + min(self._took_s, MOST_REST_S)
        log.info(
            "archiver.flushed",
            rows=appended.predictions,
            labels=appended.labels,
            dead_letters=appended.dead_letters,
            repeated=appended.repeated,
            seconds=round(self._took_s, 3),
        )

    def _write_one_by_one(self) -> None:
        for record in self._buffer.records:
            self._writer.append_one(record)
        self._buffer = Buffer()


def positions(
    bus: Bus, writer: LakeWriter, partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """Return the offset to read next for each partition, from the lake; -1: from the earliest.

    Raises RetryLater while the broker or the lake is unavailable, and if a partition ends before
    the lake's position: then the topic was recreated, and its new records would be taken for old
    ones.
    """
    found = writer.positions(partitions)
    ends = {topic: bus.end_offsets(topic) for topic in {topic for topic, _ in found}}
    for (topic, number), offset in found.items():
        end = ends[topic].get(number, offset)
        if offset > end:
            raise RetryLater(
                f"{topic}:{number} ends at {end}, but the lake holds it up to {offset - 1}: is "
                "this another Kafka than the one it was filled from?"
            )
    log.info("archiver.took", positions={f"{t}:{p}": o for (t, p), o in found.items()})
    return found


def _names(partitions: Iterable[Partition]) -> list[str]:
    return [f"{topic}:{number}" for topic, number in sorted(partitions)]
