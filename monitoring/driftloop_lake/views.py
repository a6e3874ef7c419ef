"""A model's predictions and labels as SQL views, as of a time and a version of the lake. Read-only.

`predictions`: prediction_id, row, version, arm, predicted_at; one column for each input and output;
replica, sequence, latency_s, error, routing_key_hash, trace_id. `labels`: the fields of the labels
for this model's predictions. `labelled`: their inner join, each row with its latest label; labels
that are mappings are merged (`queries.MERGED`). `shadows`: what candidates answered unseen, under
the keys of the predictions, with their outputs and `error`. A column has the name of its tensor,
unless the view already has that name or an input and an output share it (DuckDB ignores case). Then
it keeps the lake's prefix, `in_…` or `out_…`, and gets a number if that name is taken too:
`in_Age`, `in_age_2`.

Apart from `queries`, only this module knows DuckDB.
"""

import itertools
import queue
import threading
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.events import FIXED_COLUMNS, INPUT_PREFIX, LABEL_SCHEMA, OUTPUT_PREFIX
from driftloop_contracts.model import NAME
from driftloop_lake import layout
from driftloop_lake.columns import named
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.queries import MERGED

KEY = tuple(field.name for field in FIXED_COLUMNS[:5])
BOOKKEEPING = tuple(field.name for field in FIXED_COLUMNS[5:])
LABEL = ("value", "observed_at", "received_at", "source", "tags", "value_json")
NO_SHADOWS = pa.schema([field for field in FIXED_COLUMNS if field.name in (*KEY, "error")])
Columns = Mapping[str, tuple[Sequence[pa.Field], pa.DataType]]
BATCH_ROWS = 10_000
_AHEAD = 4
"""The number of batches that may wait for a slow reader."""
_END_S = 10.0
"""How long an interrupted query may take to end, in seconds."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What DuckDB may use, such as `512MiB`. disk: for what does not fit in memory; None: most of
    what is free."""

    memory: str = "25%"
    disk: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the predictions table; `labels` None: the labels as they were at that time."""

    predictions: int
    labels: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Parse `12`, or `12:8` with the version of the labels table. Raises Rejected."""
        numbers = text.split(":")
        if not all(number.isdecimal() for number in numbers) or len(numbers) > 2:
            raise Rejected(f"version {text!r}: write N, or PREDICTIONS:LABELS")
        return cls(int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else None)


def column_names(columns: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Return the view's names of the lake's columns: tensors and bookkeeping columns have their own
    name if it is free, otherwise a prefixed one (`lake_…` for bookkeeping). `taken`: names that the
    view already has."""
    own = {c: _own(c) for c in columns if c.startswith((INPUT_PREFIX, OUTPUT_PREFIX))}
    used = [name.casefold() for name in (*taken, *own.values())]
    alone = {c: name for c, name in own.items() if used.count(name.casefold()) == 1}
    used = [name.casefold() for name in (*taken, *alone.values())]
    names = {}
    for column in own:
        names[column] = alone.get(column) or _numbered(column, used)
        used.append(names[column].casefold())
    for column in (c for c in BOOKKEEPING if c in columns):
        names[column] = _numbered(f"lake_{column}", used) if column in used else column
        used.append(names[column].casefold())
    return names


def _numbered(name: str, used: Container[str]) -> str:
    tried = (name if number == 1 else f"{name}_{number}" for number in itertools.count(1))
    return next(name for name in tried if name.casefold() not in used)


def _own(column: str) -> str:
    return column.removeprefix(INPUT_PREFIX if column.startswith(INPUT_PREFIX) else OUTPUT_PREFIX)


class QueryStopped(Rejected):
    """A query needs more time or memory than it may have. Ask for less."""


class QueryResult:
    """A running query: `columns`, and batches as they arrive. Can be iterated once.

    It runs in a separate thread, so that Ctrl-C and the time limit can interrupt it at any point.
    """

    def __init__(self, connection: Any, sql: str, timeout_s: float) -> None:
        self._connection, self._sql = connection, sql
        self._timeout_s, self._deadline = timeout_s, time.monotonic() + timeout_s
        self._found: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="lake-query")
        self._thread.start()
        self.schema: pa.Schema = self._next()

    @property
    def columns(self) -> list[str]:
        """Unique names: a second `a` is `a_1`."""
        names = self.schema.names
        return [
            f"{name}_{before}" if (before := names[:i].count(name)) else name
            for i, name in enumerate(names)
        ]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches. Raises Rejected for errors that occur in the rows, and after the time
        limit."""
        while (batch := self._next()) is not None:
            yield batch.rename_columns(self.columns)
        self._thread.join(_END_S)  # it still frees memory

    def close(self) -> None:
        """Interrupt the query if it is running."""
        self._given_up.set()
        if self._thread.is_alive():
            self._connection.interrupt()
            # A process that exits while DuckDB is working or freeing memory is aborted.
            self._thread.join(_END_S)

    def _next(self) -> Any:
        try:
            found = self._found.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            self.close()
            raise QueryStopped(f"the query was stopped after {self._timeout_s:g} s") from None
        except BaseException:
            self.close()
            raise
        if isinstance(found, MemoryError):
            raise QueryStopped(f"query: {found}") from found
        if isinstance(found, Exception):
            raise Rejected(f"query: {found}") from found
        return found

    def _run(self) -> None:
        import duckdb

        try:
            reader = self._connection.sql(self._sql).to_arrow_reader(BATCH_ROWS)
            if not self._put(reader.schema):
                return
            for batch in reader:
                if batch.num_rows and not self._put(batch):
                    return
            self._put(None)
        except duckdb.OutOfMemoryException as error:
            self._put(MemoryError(str(error)))
        except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as error:
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._given_up.is_set():
            try:
                self._found.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


class Views:
    """The views of a model; create them with `open_views`. One query at a time."""

    def __init__(
        self,
        predictions: LakeTable,
        labels: LakeTable | None,
        shadows: LakeTable | None,
        at: datetime | None,
        text_labels: bool | None,
        output: str | None,
        resources: Resources = Resources(),
    ) -> None:
        import duckdb

        self.version = Version(predictions.version, -1 if labels is None else labels.version)
        self._columns = named(predictions.schema)
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 2; SET TimeZone = 'UTC'")
        self._connection.execute("SET memory_limit = $1", [resources.memory])
        if resources.disk is not None:
            self._connection.execute("SET max_temp_directory_size = $1", [resources.disk])
        stored = LABEL_SCHEMA.empty_table() if labels is None else labels.dataset()
        self._connection.register("_stored", predictions.dataset())
        self._connection.register("_labels", stored)
        shadow = NO_SHADOWS.empty_table() if shadows is None else shadows.dataset()
        self._connection.register("_shadows", shadow)
        self._shadow_columns = named(NO_SHADOWS if shadows is None else shadows.schema)
        self._connection.execute(_with_todays_names(predictions))
        text = self._is_text(output) if text_labels is None else text_labels
        for view in self._definitions(at, text):
            self._connection.execute(view)
        # From here on, only the views can be read, and settings cannot be changed back.
        self._connection.execute(
            "SET python_enable_replacements = false; SET enable_external_access = false;"
            "SET lock_configuration = true"
        )

    @property
    def tensors(self) -> dict[str, str]:
        """The columns of inputs and outputs in `predictions`, by the lake's name."""
        names = column_names(list(self._columns), KEY)
        return {c: name for c, name in names.items() if c not in BOOKKEEPING}

    def ask(self, sql: str, timeout_s: float = 300.0) -> QueryResult:
        """Run one SELECT. Raises Rejected with DuckDB's message for any other or invalid
        statement."""
        import duckdb

        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise Rejected(f"query: {error}") from error
        reads = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
        if len(statements) != 1 or statements[0].type not in reads:
            raise Rejected("query: write one SELECT; nothing can be changed here")
        return QueryResult(self._connection, sql, timeout_s)

    def _is_text(self, output: str | None) -> bool:
        """Whether labels are compared with a text: with the model's answer, or else with all its
        outputs."""
        column = f"{OUTPUT_PREFIX}{output}"
        columns = [column] if column in self._columns else list(self._columns)
        outputs = [self._columns[c][1] for c in columns if c.startswith(OUTPUT_PREFIX)]
        return any(pa.types.is_string(type_) for type_ in outputs)

    def _definitions(self, at: datetime | None, text: bool) -> Iterator[str]:
        until = "" if at is None else f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat()}'"
        value = "value ->> '$'" if text else "number"
        # A version that was rolled out twice has answered some rows twice, and alike.
        yield f"""CREATE VIEW shadows AS SELECT {self._select(KEY, KEY, self._shadow_columns)}
            FROM _shadows p {until and f"WHERE predicted_at <= {until}"}
            QUALIFY row_number() OVER (PARTITION BY version, prediction_id, row) = 1"""
        yield f"""CREATE VIEW predictions AS SELECT {self._select(KEY)} FROM _predictions p
            {until and f"WHERE predicted_at <= {until}"}"""
        yield f"""CREATE VIEW labels AS
            SELECT prediction_id, row, {value} AS value, observed_at, received_at, source, metric,
                tags, value AS value_json
            FROM _labels SEMI JOIN predictions USING (prediction_id)
            {until and f"WHERE received_at <= {until}"}"""
        # Merging holds all labels in memory, so it is left out if there is nothing to merge.
        merged = MERGED if self._has_mappings() else "NULL"
        judged = [
            "coalesce(l.merged, l.best.value) AS value" if text else "l.best.value",
            *(f"l.best.{column}" for column in LABEL[1:-1]),
            "coalesce(l.merged, l.best.value_json) AS value_json",
        ]
        yield f"""CREATE VIEW labelled AS
            SELECT {self._select((*KEY, *LABEL), KEY)}, {", ".join(judged)}
            FROM _predictions p JOIN (
                SELECT prediction_id, row, arg_max(
                    {{'value': {value}, 'observed_at': observed_at, 'received_at': received_at,
                      'source': source, 'tags': tags, 'value_json': value}},
                    (received_at, observed_at, value)) AS best, {merged} AS merged
                FROM _labels WHERE metric = 'label' {until and f"AND received_at <= {until}"}
                GROUP BY prediction_id, row
            ) l ON p.prediction_id = l.prediction_id AND p.row = l.row
            {until and f"WHERE p.predicted_at <= {until}"}"""

    def _has_mappings(self) -> bool:
        """Whether a label is a mapping; files without one are skipped by their statistics."""
        found = self._connection.execute("SELECT 1 FROM _labels WHERE value >= '{' LIMIT 1")
        return found.fetchone() is not None

    def _select(
        self, taken: Sequence[str], key: Sequence[str] = KEY, columns: Columns | None = None
    ) -> str:
        """columns: of the table `p`; None: of predictions."""
        found = self._columns if columns is None else columns
        names = column_names(list(found), taken)
        parts = [f"p.{_quoted(column)}" for column in key]
        for column, name in names.items():
            fields, type_ = found[column]
            parts.append(f"{_united(fields, type_)} AS {_quoted(name)}")
        return ", ".join(parts)


def open_views(
    lake: str,
    model: str,
    *,
    version: Version | None = None,
    at: datetime | None = None,
    output: str | None = None,
    text_labels: bool | None = None,
    resources: Resources = Resources(),
) -> Views:
    """Create views of the newest or a given version, restricted to what was predicted and received
    up to `at`. Shadow answers are always the newest.

    output: the tensor that labels are compared with. If it is a text, `value` of a label is a text,
    otherwise a number (null for a label of another kind; `value_json` has each label as it was
    sent). `text_labels` overrides this. Raises NotFound if the lake has no such model or version.
    """
    if not NAME.match(model):
        raise Rejected(f"model name {model!r}: letters, digits, '_', '.', '-', at most 64")
    predictions = LakeTable.open(layout.predictions_uri(lake, model))
    labels = LakeTable.open(layout.labels_uri(lake))
    if predictions is None or predictions.version == 0:  # 0: created, no rows yet
        raise NotFound(f"the lake has no prediction of {model!r}")
    if version is not None:
        newest, predictions = predictions, _at_version(predictions, version.predictions, model)
        if labels is not None:
            labels = _labels_beside(newest, labels, version)
    shadows = LakeTable.open(layout.shadows_uri(lake, model))
    return Views(predictions, labels, shadows, at, text_labels, output, resources)


def _labels_beside(predictions: LakeTable, labels: LakeTable, version: Version) -> LakeTable | None:
    beside = version.labels
    if beside is None:
        written = predictions.committed_at(version.predictions)
        if written is None:
            raise NotFound(
                f"the lake no longer knows when version {version.predictions} was written: "
                "name the version of the labels too, PREDICTIONS:LABELS"
            )
        beside = labels.version_at(written)
    return None if beside < 0 else _at_version(labels, beside, "labels")


def _at_version(newest: LakeTable, version: int, what: str) -> LakeTable:
    found = None if version > newest.version else newest.at(version)
    if found is None:
        raise NotFound(
            f"the lake has no version {version} of {what!r}; the newest is {newest.version}"
        )
    return found


def _with_todays_names(predictions: LakeTable) -> str:
    renamed = [f"{_quoted(own)} AS {today}" for today, own in predictions.own_names.renamed.items()]
    renaming = f"RENAME ({', '.join(renamed)})" if renamed else ""
    return f"CREATE VIEW _predictions AS SELECT * {renaming} FROM _stored"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _united(fields: Sequence[pa.Field], type_: pa.DataType) -> str:
    """Return the SQL of one name, whose values may be in several columns with different types."""
    if len(fields) == 1:
        return f"p.{_quoted(fields[0].name)}"
    target = _sql_type(type_)
    values = []
    for field in fields:
        value = f"p.{_quoted(field.name)}"
        if pa.types.is_list(type_) and not pa.types.is_list(field.type):
            value = f"CASE WHEN {value} IS NOT NULL THEN [{value}] END"
        values.append(f"CAST({value} AS {target})")
    return f"coalesce({', '.join(values)})"


def _sql_type(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return _sql_type(type_.value_type) + "[]"
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision}, {type_.scale})"
    return _SQL_TYPES[str(type_)]


_SQL_TYPES = {
    "bool": "BOOLEAN", "string": "VARCHAR", "float": "FLOAT", "double": "DOUBLE", "int8": "TINYINT",
    "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
}  # fmt: skip
