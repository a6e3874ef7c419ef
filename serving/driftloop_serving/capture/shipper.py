"""The role `shipper`: carries the spools of this machine's processes to Kafka.

Delivery: read → send (idempotent, acks=all) → all acknowledged → move the position. A kill between
the last two sends records again, packed differently perhaps; the archiver drops the sequences that
it knows. One chunk of a folder is under way at a time, so order per replica holds and memory is
bounded. While the broker is away, the spools grow up to their quota. What the cluster refuses
breaks the producer (`driftloop_bus.port`): all chunks under way fail, and go again with another
one, in records as large as the topics take by then. What they take is asked (`value_limits`), and
learnt from refusals where the answer is missing or wrong.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from driftloop_bus import Bus, connect
from driftloop_bus.port import BATCH_BYTES, Producer
from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.events import LABELS, PREDICTIONS, TOPICS
from driftloop_contracts.health import Health
from driftloop_serving.capture.label_documents import apart
from driftloop_serving.capture.packing import pack, pack_labels
from driftloop_serving.capture.spool import LABELS as LABEL_ROWS
from driftloop_serving.capture.spool_reader import Chunk, SpoolReader
from driftloop_serving.capture.value_limits import ValueLimits
from driftloop_serving.capture.wakeup_pipe import WakeupPipe
from driftloop_settings import Settings
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, StoreAway, await_store
from driftloop_store.cycle_health import SILENCE_S, CycleHealth

log = structlog.get_logger()

SHIPPED = (PREDICTIONS, LABELS)
CHUNK_BYTES = 4 << 20
LEDGER_S = 0.5
STOP_S = 8.0
FIRST_REST_S, MOST_REST_S = 0.1, 5.0


@dataclass
class Shipment:
    """A chunk of one spool in flight. `undeliverable`: the number of rows that can never be sent,
    by "model/version" or LABEL_ROWS."""

    reader: SpoolReader
    chunk: Chunk
    futures: list[Future[tuple[int, int]]] = field(default_factory=list)
    undeliverable: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return all(f.done() for f in self.futures)

    def give_up(self, key: str, rows: int) -> None:
        log.error("shipper.too_large", replica=self.reader.replica, version=key, rows=rows)
        self.undeliverable[key] = self.undeliverable.get(key, 0) + rows


@dataclass(frozen=True, slots=True)
class Rest:
    """The pause of a folder whose records Kafka refused `failures` times in a row. Without it, a
    broker that refuses at once would get a hundred attempts a second."""

    failures: int
    until: float

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until

    @classmethod
    def after(cls, last: "Rest | None") -> "Rest":
        failures = 1 if last is None else last.failures + 1
        seconds = min(MOST_REST_S, FIRST_REST_S * 2 ** min(failures - 1, 10))
        return cls(failures, time.monotonic() + seconds)


class Shipper:
    """Ships all spools; `step` does one round over them.

    left: folders with spools of writers that have a different `capture.durability`. behind: whether
    the last round left records that were already waiting.
    """

    def __init__(
        self, root: Path, bus: Bus, store: Store, pack_rows: int, left: Sequence[Path] = ()
    ) -> None:
        self._roots = (root, *left)
        self._bus, self._store = bus, store
        self._pack_rows = pack_rows
        self._readers: dict[str, SpoolReader] = {}
        self._under_way: dict[str, Shipment] = {}
        self._written: dict[str, dict[tuple[str, int], object]] = {}
        self._rests: dict[str, Rest] = {}
        self._refusals: dict[str, str] = {}
        self._limits = ValueLimits(bus, SHIPPED)
        self._producer = self._connected()
        self.behind = False

    def step(self, patience_s: float) -> bool:
        """Send new records and wait up to `patience_s` seconds for acknowledgements. Returns
        whether any were sent or acknowledged."""
        self._discover()
        if self._producer.broken and not self._under_way:
            self._reconnect()
        for name, reader in list(self._readers.items()):
            rest = self._rests.get(name)
            waits = self._producer.broken or (rest is not None and not rest.over)
            if name not in self._under_way and not waits:
                # Checked before reading, so that the chunk contains everything a writer wrote
                # before it died.
                dead = reader.writer_is_dead()
                chunk = reader.read(CHUNK_BYTES)
                if chunk.records:
                    self._under_way[name] = self._send(reader, chunk)
                else:
                    with suppress(StoreAway):  # its ledger is closed in a later round
                        if reader.is_gone:
                            self._miss(reader)
                        elif dead:
                            self._retire(reader)
        futures = [f for s in self._under_way.values() for f in s.futures]
        wait(futures, patience_s)
        settled = {name: s for name, s in self._under_way.items() if s.done}
        for name, shipment in settled.items():
            del self._under_way[name]
            self._settle(name, shipment)
        self.behind = any(s.chunk.more for s in settled.values())
        return bool(settled)

    @property
    def refused(self) -> str:
        """Why Kafka refuses the records of one folder; "" if it accepts all."""
        return next(iter(self._refusals.values()), "")

    def close(self) -> None:
        self._producer.close()

    def _reconnect(self) -> None:
        self._producer.close()
        self._producer = self._connected(self._producer.too_large_for)

    def _connected(self, refused: str | None = None) -> Producer:
        if self._limits.look_up(refused) and refused is not None:
            self._rests.clear()  # with another limit the next try may do
        return self._bus.producer(min(BATCH_BYTES, *map(self._limits.of, SHIPPED)))

    def write_ledger(self) -> None:
        """Write the ledger of each spool; if the store is away, it is written the next time."""
        with suppress(StoreAway):
            for reader in self._readers.values():
                self._write_ledger(reader)

    def _discover(self) -> None:
        known = self._readers.keys()
        for root in self._roots:
            for folder in root.iterdir() if root.is_dir() else ():
                if folder.name[0] != "." and folder.name not in known and folder.is_dir():
                    self._readers[folder.name] = SpoolReader(folder)

    def _send(self, reader: SpoolReader, chunk: Chunk) -> Shipment:
        shipment = Shipment(reader, chunk)
        key = reader.replica.encode()
        by_version = sorted(chunk.predictions, key=lambda b: (b.model, b.version))  # stable
        limit = self._limits.of(PREDICTIONS)
        for headers, value in pack(by_version, reader.replica, self._pack_rows, limit):
            name = f"{headers.model}/{headers.version}"
            if value is None:
                shipment.give_up(name, headers.rows)
                continue
            shipment.futures.append(
                self._producer.send(PREDICTIONS, value, key=key, headers=headers.encode())
            )
        limit = self._limits.of(LABELS)
        labels = [
            each
            for record in chunk.labels
            for each in ([record] if len(record.document) <= limit else apart(record))
        ]
        fitting = [label for label in labels if len(label.document) <= limit]
        if len(fitting) < len(labels):
            shipment.give_up(LABEL_ROWS, len(labels) - len(fitting))
        for first, value in pack_labels(fitting, limit):
            shipment.futures.append(self._producer.send(LABELS, value, key=first.encode()))
        return shipment

    def _settle(self, name: str, shipment: Shipment) -> None:
        errors = [e for f in shipment.futures if (e := f.exception()) is not None]
        if errors:
            # The whole chunk is sent again; the archiver recognises what had arrived by its
            # sequences.
            log.warning("shipper.again", replica=shipment.reader.replica, error=str(errors[0]))
            self._refusals[name] = str(errors[0])
            self._rests[name] = Rest.after(self._rests.get(name))
            return
        self._rests.pop(name, None)
        self._refusals.pop(name, None)
        try:
            shipment.reader.acknowledge(shipment.chunk, shipment.undeliverable)
        except FileNotFoundError:
            with suppress(StoreAway):
                self._miss(shipment.reader)

    def _miss(self, reader: SpoolReader) -> None:
        """Handle a spool folder that was removed by someone else. Its unsent records are lost for
        an unknown reason, so its counts no longer add up in the ledger and verdicts based on them
        are inconclusive."""
        for (model, version), entry in reader.ledger().items():
            lost, entry["spooled"] = entry["spooled"], 0
            self._store.put_ledger(reader.replica, model, version, **entry)
            log.error(
                "shipper.spool_lost",
                replica=reader.replica,
                model=model,
                version=version,
                rows=lost,
            )
        self._readers.pop(reader.replica, None)
        self._refusals.pop(reader.replica, None)

    def _retire(self, reader: SpoolReader) -> None:
        reader.close_books()
        self._write_ledger(reader)
        reader.remove()
        del self._readers[reader.replica]
        self._refusals.pop(reader.replica, None)
        log.info("shipper.spool_closed", replica=reader.replica)

    def _write_ledger(self, reader: SpoolReader) -> None:
        written = self._written.setdefault(reader.replica, {})
        changed = {of: entry for of, entry in reader.ledger().items() if written.get(of) != entry}
        if changed:
            self._store.put_ledgers(reader.replica, changed)
            written.update(changed)


def run(settings: Settings, stop: threading.Event) -> None:
    store = await_store(settings.store_url, stop)
    if store is None:
        return
    process = ThisProcess.of(settings)
    bus = connect(settings)
    health = CycleHealth(store, "shipper", silence_s=SILENCE_S, process=process)
    if not await_topics(bus, settings, stop, health):
        return
    root = settings.spool_dir
    left = [other for other in settings.spool_dirs if other != root]
    shipper = Shipper(root, bus, store, settings.capture.pack_rows, left)
    wakeup = WakeupPipe(root) if settings.capture.durability == "acked" else None
    wait_for_more = wakeup.wait if wakeup else stop.wait
    wrote_at = 0.0
    try:
        while not stop.is_set():
            shipper.step(patience_s=1.0)
            if shipper.refused:
                health.failed(shipper.refused)
            else:
                health.succeeded()
            if time.monotonic() - wrote_at > LEDGER_S:
                shipper.write_ledger()
                wrote_at = time.monotonic()
            if not shipper.behind:
                wait_for_more(settings.capture.pack_seconds)
        deadline = time.monotonic() + STOP_S
        while shipper.step(patience_s=1.0) and time.monotonic() < deadline:
            pass
    finally:
        shipper.write_ledger()
        shipper.close()
        health.ended()
        store.close()
        if wakeup:
            wakeup.close()


def await_topics(bus: Bus, settings: Settings, stop: threading.Event, health: Health) -> bool:
    """Create the topics as soon as a broker answers. False if asked to stop before that."""
    kafka = settings.kafka
    while not stop.is_set():
        try:
            bus.ensure_topics(
                TOPICS, partitions=kafka.partitions, retention_hours=kafka.retention_hours
            )
            return True
        except DriftloopError as error:
            health.failed(error)
        stop.wait(0.5)
    return False
