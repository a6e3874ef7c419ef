"""Reads the lake: Delta finds the files and rows that may be relevant, DuckDB joins them with
labels."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.errors import NotFound
from driftloop_contracts.events import LABEL_SCHEMA, LABELS, PREDICTIONS
from driftloop_contracts.model import Arm
from driftloop_lake import layout, storage
from driftloop_lake.client_ids import RETRIES
from driftloop_lake.dead_letters import DeadLetters
from driftloop_lake.label_files import LabelFiles
from driftloop_lake.lake_table import NO_MARK, LakeTable, quoted, time_literal
from driftloop_lake.matches import Matches
from driftloop_lake.port import LakeCounts, Pin
from driftloop_lake.queries import Queries
from driftloop_lake.repeats import Repeats
from driftloop_lake.shadow_tables import ShadowTables
from driftloop_lake.upkeep import Pinned, Rules, Upkeep
from driftloop_lake.upkeep_table import UpkeepTable
from driftloop_lake.writer import LakeWriter, fence, missing_mark

if TYPE_CHECKING:
    from driftloop_settings import LakeSettings, Settings

TIME, TRACE_ID = "predicted_at", "trace_id"
_KEPT_SNAPSHOTS = 8
_PARTITION_GAP = 32
_INSTANT = timedelta(microseconds=1)
_LABEL_KEY = [field.name for field in LABEL_SCHEMA if field.name != "tags"]


def open_lake(settings: "Settings", *, many: bool = False) -> "DeltaLake":
    """Return the lake of the settings, which need not exist yet. Does no I/O. many: it is read for
    many models in turn, so that labels are kept for the next one."""
    return DeltaLake(settings.lake_uri, label_files=LabelFiles() if many else None)


class DeltaLake:
    """A `LakeReader`. Thread-safe; reads are executed one at a time."""

    def __init__(
        self, uri: str, queries: Queries | None = None, label_files: LabelFiles | None = None
    ) -> None:
        self._uri = uri
        self._lock = RLock()
        self._newest: dict[str, LakeTable] = {}
        self._pinned: dict[tuple[str, int], LakeTable] = {}
        self._queries = queries or Queries()
        self._label_files = label_files
        self._shadows = ShadowTables(uri)
        self._counted: dict[tuple[str, Pin], LakeCounts] = {}
        self._matches: dict[str, Matches] = {}
        self._repeats: dict[str, Repeats] = {}

    def writer(self) -> LakeWriter:
        """Return the writer that the archiver uses."""
        return LakeWriter(self._uri)

    def shadows(self) -> ShadowTables:
        """Return the answers that candidates gave unseen."""
        return self._shadows

    def upkeep(self, settings: "LakeSettings", pinned: Pinned) -> Upkeep:
        """Return the maintenance of the tables."""
        rules = Rules(settings.compact_files, settings.vacuum_hours, settings.retention_days)
        return Upkeep(self._uri, rules, pinned)

    def erase(self, model: str) -> None:
        """Delete all rows of a model's predictions and shadow answers. Their files are removed when
        unpinned versions are vacuumed. Raises RetryLater."""
        for uri in (
            layout.predictions_uri(self._uri, model),
            layout.shadows_uri(self._uri, model),
        ):
            table = UpkeepTable.open(uri)
            if table is not None and table.version > 0:
                # selects whole partitions, so no file is read
                table.delete(f"{layout.DATE} IS NOT NULL")

    def dead_letters(self) -> DeadLetters:
        """Return the records that could not be archived."""
        return DeadLetters(self._uri)

    def pin(self, model: str) -> Pin | None:
        with self._lock:
            predictions = self._refreshed(layout.predictions_uri(self._uri, model))
            if predictions is None or predictions.version == 0:  # 0: created, no rows yet
                return None
            labels = self._refreshed(layout.labels_uri(self._uri))
            return Pin(predictions.version, -1 if labels is None else labels.version)

    def labelled(
        self,
        model: str,
        pin: Pin,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        versions: tuple[int, ...] = (),
        arm: Arm | None = None,
        only_labelled: bool = True,
        metric: str = "label",
        tags: bool = False,
    ) -> pa.Table:
        with self._lock:
            table = self._at(layout.predictions_uri(self._uri, model), pin.predictions)
            labels = self._labels(pin)

            def times(since: datetime | None, until: datetime | None) -> pa.Array:
                rows = table.scan([TIME], _predicate(table, since, until, versions, arm))
                return rows.column(TIME).combine_chunks().sort()

            if oldest is not None:
                until = _oldest(oldest, table, since, until, times)

            def read(since: datetime | None) -> pa.Table:
                predictions = table.scan(predicate=_predicate(table, since, until, versions, arm))
                predictions = predictions.drop_columns(layout.DATE)
                found = _labels_of(predictions, labels, as_of, metric, tags, self._label_files)
                return self._queries.with_labels(predictions, found, only_labelled, tags)

            if newest is None:
                return read(since)

            def reached_by(rows: int) -> datetime | None:
                bound: datetime | None = table.reached_by(TIME, rows)
                if bound is None or (since is not None and bound <= since):
                    return None
                found = times(bound, until)
                return found[-rows].as_py() if len(found) >= rows else bound

            return _newest(newest, reached_by, since, read)

    def traced(
        self, model: str, since: datetime, until: datetime, limit: int
    ) -> list[tuple[str, str]]:
        """Return trace id and prediction id of at most `limit` requests of these times, both
        included; none from a table of an earlier release. Raises RetryLater."""
        with self._lock:
            table = self._refreshed(layout.predictions_uri(self._uri, model))
            if table is None or TRACE_ID not in table.schema.names:
                return []
            when = _predicate(table, since, until + _INSTANT, (), None)
            rows = table.scan([TRACE_ID, "prediction_id"], f"{when} AND {TRACE_ID} IS NOT NULL")
            pairs = zip(*(rows.column(c).to_pylist() for c in rows.schema.names), strict=True)
            found = [(row[0], row[1]) for row in dict.fromkeys(pairs)]
            return found[:limit]

    def most_after(self, model: str, pin: Pin, since: datetime | None) -> int:
        with self._lock:
            table = self._at(layout.predictions_uri(self._uri, model), pin.predictions)
            return table.rows() if since is None else table.rows_reaching(TIME, since)

    def answers_with(
        self, model: str, pin: Pin, metrics: Sequence[str], since: datetime | None
    ) -> int:
        with self._lock:
            labels = self._labels(pin)
            if labels is None:
                return 0
            told = f"metric IN ({', '.join(quoted(m) for m in metrics)}) AND value != 'null'"
            if since is not None:
                told += f" AND received_at > {time_literal(since)}"
            found = labels.scan(["prediction_id", "row"], told)
            if not found.num_rows:
                return 0
            table = self._at(layout.predictions_uri(self._uri, model), pin.predictions)
            rows = table.scan(["prediction_id", "row"], _between(found.column("prediction_id")))
            return self._queries.labels_of(rows, found)

    def answered(self, model: str, pin: Pin, since: datetime, until: datetime) -> int:
        with self._lock:
            table = self._at(layout.predictions_uri(self._uri, model), pin.predictions)
            when = _predicate(table, since, until, (), None)
            return int(table.scan([TIME], f"{when} AND error IS NULL").num_rows)

    def count(self, model: str, pin: Pin) -> LakeCounts:
        with self._lock:
            known = self._counted.get((model, pin))
            if known is None:
                known = self._counted[model, pin] = self._count(model, pin)
                _forget_oldest(self._counted)
            return known

    def _count(self, model: str, pin: Pin) -> LakeCounts:
        table = self._at(layout.predictions_uri(self._uri, model), pin.predictions)
        labels = self._labels(pin)
        matched = 0
        if labels is not None:
            matches = self._matches.setdefault(model, Matches())
            matched = matches.count(table, labels, partial(self._matched, labels))
        repeats = self._repeats.setdefault(model, Repeats())
        twice = repeats.count(table, self._queries.distinct)
        return LakeCounts(table.rows(), twice, matched, max(0, table.mark(RETRIES)))

    def _matched(self, labels: LakeTable, rows: pa.Table) -> int:
        """Return the number of distinct labels that have a row in a table of (prediction_id,
        row)."""
        ids = rows.column("prediction_id")
        if not rows.num_rows:
            return 0
        if self._label_files is not None:
            found = self._label_files.of(labels, ids).select(_LABEL_KEY)
        else:
            found = labels.scan(_LABEL_KEY, _between(ids))
        return self._queries.labels_of(rows, found) if found.num_rows else 0

    def missing(self, model: str, pin: Pin, version: int, replicas: Iterable[str]) -> int:
        with self._lock:
            table = self._at(layout.predictions_uri(self._uri, model), pin.predictions)
            return sum(max(0, table.mark(missing_mark(replica, version))) for replica in replicas)

    def unmatched_labels(self) -> int:
        with self._lock:
            labels = self._refreshed(layout.labels_uri(self._uri))
            if labels is None:
                return 0
            rows = labels.scan(_LABEL_KEY)
            for model in storage.folders(self._uri, layout.PREDICTIONS_FOLDER):
                table = self._refreshed(layout.predictions_uri(self._uri, model))
                if table is not None:
                    rows = self._queries.labels_without(rows, table.scan(["prediction_id", "row"]))
            return self._queries.distinct(rows)

    def offsets(self, model: str, pin: Pin) -> dict[str, dict[str, int]]:
        with self._lock:
            predictions = self._at(layout.predictions_uri(self._uri, model), pin.predictions)
            labels = self._labels(pin)
            return {
                "predictions": _offsets(predictions, PREDICTIONS),
                "labels": {} if labels is None else _offsets(labels, LABELS),
            }

    def archived(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return how many records of each partition were read into the lake, or left out of it for
        good. Raises RetryLater."""
        with self._lock:
            offsets = self._refreshed(layout.offsets_uri(self._uri))
            if offsets is None:
                return dict.fromkeys(partitions, 0)
            return {number: offsets.mark(fence(topic, number)) + 1 for number in partitions}

    def _labels(self, pin: Pin) -> LakeTable | None:
        return None if pin.labels < 0 else self._at(layout.labels_uri(self._uri), pin.labels)

    def _refreshed(self, uri: str) -> LakeTable | None:
        return LakeTable.newest(uri, self._newest)

    def _at(self, uri: str, version: int) -> LakeTable:
        """Open the table at a version. Raises NotFound if that version does not exist (any
        more)."""
        newest = self._newest.get(uri)
        if newest is not None and newest.version == version:
            return newest
        table = self._pinned.get((uri, version))
        if table is None:
            table = LakeTable.open(uri, version)
            if table is None:
                raise NotFound(f"the lake has no version {version} of {uri.rsplit('/', 1)[-1]}")
            self._pinned[uri, version] = table
            _forget_oldest(self._pinned)
        return table


def _offsets(table: LakeTable, topic: str) -> dict[str, int]:
    """Return the offsets by partition. Marks cannot be listed, so partitions are tried until many
    in a row have none."""
    found: dict[str, int] = {}
    partition = last = 0
    while partition <= last + _PARTITION_GAP:
        offset = table.mark(fence(topic, partition))
        if offset != NO_MARK:
            found[f"{topic}:{partition}"], last = offset, partition
        partition += 1
    return found


def _newest(
    wanted: int,
    reached_by: Callable[[int], datetime | None],
    since: datetime | None,
    read: Callable[[datetime | None], pa.Table],
) -> pa.Table:
    """Return the newest `wanted` rows of `read(since)` without reading many more. Rows without a
    label and of other versions are dropped, so the bound moves back until enough are left or all
    were read."""
    take = 2 * wanted
    while (bound := reached_by(take)) is not None:
        found = read(bound)
        if found.num_rows >= wanted:
            return found.slice(found.num_rows - wanted)
        take *= 4
    found = read(since)
    return found.slice(max(0, found.num_rows - wanted))


def _labels_of(
    keys: pa.Table,
    labels: LakeTable | None,
    as_of: datetime | None,
    metric: str,
    tags: bool,
    files: LabelFiles | None,
) -> pa.Table:
    """Return the labels that may belong to these predictions. Ids sort by time, so the statistics
    of Delta's files (and of parquet pages) exclude labels of older and newer predictions."""
    columns = ["prediction_id", "row", "value", "number", "received_at", "observed_at"]
    columns += ["tags"] if tags else []
    if labels is None or not keys.num_rows:
        return pa.schema([LABEL_SCHEMA.field(name) for name in columns]).empty_table()
    if files is not None:
        known = files.of(labels, keys.column("prediction_id"))
        counts = pc.equal(known["metric"], metric)
        if as_of is not None:
            counts = pc.and_(counts, pc.less_equal(known["received_at"], pa.scalar(as_of)))
        return known.filter(counts).select(columns)
    terms = [f"metric = {quoted(metric)}", _between(keys.column("prediction_id"))]
    if as_of is not None:
        terms.append(f"received_at <= {time_literal(as_of)}")
    return labels.scan(columns, " AND ".join(terms))


def _between(ids: pa.ChunkedArray) -> str:
    found = pc.min_max(ids)
    least, most = (quoted(found[bound].as_py()) for bound in ("min", "max"))
    return f"prediction_id >= {least} AND prediction_id <= {most}"


def _oldest(
    wanted: int,
    table: LakeTable,
    since: datetime | None,
    until: datetime | None,
    times: Callable[[datetime | None, datetime | None], pa.Array],
) -> datetime | None:
    """Return a time before which there are `wanted` rows of `times(since, until)`; `until` if there
    are fewer. Rows of other versions and arms are dropped, so the range is extended until there are
    enough."""
    take = 2 * wanted
    while (bound := table.held_up_to(TIME, take, since)) is not None:
        if until is not None and bound >= until:
            break
        found = times(since, bound + _INSTANT)
        if len(found) >= wanted:
            last: datetime = found[wanted - 1].as_py()
            return last + _INSTANT
        take *= 4
    return until


def _predicate(
    table: LakeTable,
    since: datetime | None,
    until: datetime | None,
    versions: tuple[int, ...],
    arm: Arm | None,
) -> str | None:
    terms = []
    time = table.own_names[TIME]
    if since is not None:
        day = since.astimezone(UTC).date()
        terms += [f"date >= '{day}'", f"{time} >= {time_literal(since)}"]
    if until is not None:
        day = until.astimezone(UTC).date()
        terms += [f"date <= '{day}'", f"{time} < {time_literal(until)}"]
    if versions:
        terms.append(f"version IN ({', '.join(str(int(v)) for v in versions)})")
    if arm is not None:
        terms.append(f"arm = {quoted(arm)}")
    return " AND ".join(terms) or None


def _forget_oldest(cache: dict[Any, Any]) -> None:
    while len(cache) > _KEPT_SNAPSHOTS:
        cache.pop(next(iter(cache)))
