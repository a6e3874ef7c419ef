"""The operations shared by the store's parts: transactions, and writes that may race."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from driftloop_contracts.errors import NotFound
from driftloop_store.engine import READ_ONLY, Availability
from driftloop_store.tables import changes, loop_events

Record = dict[str, Any]
PARAMETERS = 500
_shared: ContextVar[sa.Connection | None] = ContextVar("shared", default=None)
ANNOUNCING = 0x6472_6966_74
"""The key of PostgreSQL's advisory lock under which events are numbered."""


class Database:
    """Base of the store's parts, which are combined in one object; each adds the methods of its
    records."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._availability = Availability(engine)

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        """Run a transaction. Raises StoreAway; it is then unknown whether the transaction was
        committed."""
        with self._availability.noticed(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The reads of this thread in the block share a transaction: on SQLite they see one state
        of the store. What the block itself writes they may not see. Raises StoreAway."""
        with self._read() as connection:
            token = _shared.set(connection)
            try:
                yield
            finally:
                _shared.reset(token)

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        """One state of the store, which no writer holds up. Raises StoreAway."""
        shared = _shared.get()
        if shared is not None and shared.engine is self._engine:
            with self._availability.noticed():
                yield shared
            return
        with self._availability.noticed(), self._engine.connect() as connection:
            connection.execution_options(**READ_ONLY)
            with connection.begin():
                yield connection

    def _insert(
        self, table: sa.Table, values: Mapping[str, Any], told: Record | None = None
    ) -> bool:
        """Insert a row; returns False, without a change, if it conflicts with an existing one.
        told: the event that is announced with it."""
        with self._begin() as c:
            insert = self._insert_into(table).values(values).on_conflict_do_nothing()
            inserted = c.execute(insert.returning(sa.literal(1))).first() is not None
            if inserted:
                self._count_change(c, values["model"])
                self._announce(c, [told] if told else [])
            return inserted

    def _announce(self, c: sa.Connection, told: Sequence[Record]) -> None:
        """Write events (`loop_event`), as the last statement of a transaction: one with a
        higher number is never seen before one with a lower number."""
        if not told:
            return
        if self._engine.dialect.name == "postgresql":  # on SQLite writers are one after another
            c.execute(sa.select(sa.func.pg_advisory_xact_lock(ANNOUNCING)))
        c.execute(loop_events.insert(), list(told))

    def _count_change(self, c: sa.Connection, model: str) -> None:
        """Those who show a model see from it that a record of its changed (`Changes`)."""
        insert = self._insert_into(changes).values(model=model, revision=1)
        more = {"revision": changes.c.revision + 1}
        c.execute(insert.on_conflict_do_update(index_elements=["model"], set_=more))

    def _upsert(
        self, table: sa.Table, key: Record, values: Record, changed: str | None = None
    ) -> None:
        """changed: the model that it is a change of ("" for none); None: it is not counted."""
        insert = self._insert_into(table).values({**key, **values})
        with self._begin() as c:
            c.execute(insert.on_conflict_do_update(index_elements=list(key), set_=values))
            if changed is not None:
                self._count_change(c, changed)

    def _insert_into(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        on_sqlite = self._engine.dialect.name == "sqlite"
        return sqlite.insert(table) if on_sqlite else postgresql.insert(table)

    def _append(
        self, table: sa.Table, id_: str, model: str, at: datetime, body: Record, **columns: Any
    ) -> None:
        """Insert a record, or do nothing if the id exists, so that writers can safely retry."""
        values = {"id": id_, "model": model, "at": at.isoformat(), "body": body, **columns}
        self._insert(table, values)

    def _newest(self, table: sa.Table, model: str | None, limit: int | None) -> list[Record]:
        query = sa.select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._read() as c:
            return as_records(c.execute(query))

    def _get(self, table: sa.Table, id_: str) -> Record:
        found = self._find(table, table.c.id == id_)
        if found is None:
            raise NotFound(f"there is no {table.name.removesuffix('s')} {id_!r}")
        return found

    def _find(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> Record | None:
        with self._read() as c:
            row = c.execute(sa.select(table).where(*where)).first()
        return as_record(row) if row is not None else None

    def _change(
        self,
        table: sa.Table,
        id_: str,
        change: Callable[[Record], Record],
        tell: Callable[[Record, Record], Record | None] = lambda *_: None,
    ) -> Record:
        """Replace a record by the result of `change`, if its revision is unchanged; otherwise
        `change` is called again with the new state. An exception of `change` leaves the record
        unchanged. tell: from the record before and after, the event that is announced."""
        while True:
            before = self._get(table, id_)
            where = (table.c.id == id_, table.c.revision == before["revision"])
            after = {**columns_of(change(before)), "revision": before["revision"] + 1}
            update = table.update().where(*where).values(after).returning(table)
            with self._begin() as c:
                row = c.execute(update).first()
                if row is not None:
                    self._count_change(c, row.model)
                    told = tell(before, as_record(row))
                    self._announce(c, [told] if told else [])
            if row is not None:
                return as_record(row)


def parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Split ids, because a statement may have a limited number of parameters."""
    return (ids[start : start + PARAMETERS] for start in range(0, len(ids), PARAMETERS))


def loop_event(
    kind: str, model: str, record_id: str, body: Record, at: datetime | None = None
) -> Record:
    """An event for those who watch: the record as it is now, in a few words."""
    when = (at or datetime.now(UTC)).isoformat()
    return {"kind": kind, "model": model, "record_id": record_id, "at": when, "body": body}


def columns_of(record: Record) -> Record:
    """Return a record's columns; fields without a column are stored in the body."""
    columns = {name: record[name] for name in ("id", "model", "at", "state", "revision")}
    return {**columns, "body": {k: v for k, v in record.items() if k not in columns}}


def as_record(row: sa.Row[Any]) -> Record:
    """Return the body merged with the other columns."""
    columns = dict(zip(row._fields, row, strict=True))
    return {**columns.pop("body"), **columns}


def as_records(rows: sa.CursorResult[Any]) -> list[Record]:
    """`as_record` of each row."""
    names = tuple(rows.keys())
    found = (dict(zip(names, row, strict=True)) for row in rows)
    return [{**columns.pop("body"), **columns} for columns in found]
