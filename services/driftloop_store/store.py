"""The store: a handful of records that roles share, each write in one transaction.

Writers of a deployment or a rollout name the revision that they read; a write on top of a newer one
raises Conflict and changes nothing. Times are kept as ISO 8601 text in UTC, which sorts.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.judgement import Decision, Finding, Window
from driftloop_contracts.model import Deployment, ServedVersion
from driftloop_store import tables as t
from driftloop_store.schema import migrate

ACTIVE_RETRAINS = ("requested", "running")
FINISHED_ROLLOUTS = ("promoted", "rolled_back", "aborted")
Record = dict[str, Any]


def open_store(url: str) -> "Store":
    """Open the store at a SQLAlchemy URL and bring its tables up to date.

    Raises Unavailable if the store was written by a newer release."""
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        _configure_sqlite(engine)
    migrate(engine)
    return Store(engine)


def _configure_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's `begin` below says BEGIN itself
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA busy_timeout=15000")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A deferred transaction that later writes can fail with BUSY at once; this one waits.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class Store:
    """See the module. Safe to use from several threads and processes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    # -- deployments ---------------------------------------------------------------------------
    def deployments(self) -> list[Deployment]:
        with self._begin() as c:
            rows = c.execute(sa.select(t.deployments.c.body).order_by(t.deployments.c.model))
            return [Deployment.from_dict(body) for (body,) in rows]

    def deployment(self, model: str) -> Deployment | None:
        with self._begin() as c:
            body = c.execute(
                sa.select(t.deployments.c.body).where(t.deployments.c.model == model)
            ).scalar()
        return Deployment.from_dict(body) if body else None

    def require_deployment(self, model: str) -> Deployment:
        """Raises NotFound with the names of the models there are."""
        found = self.deployment(model)
        if found is None:
            known = ", ".join(d.model.name for d in self.deployments()) or "none is deployed"
            raise NotFound(f"model {model!r} is not deployed; known: {known}")
        return found

    def put_deployment(self, deployment: Deployment) -> Deployment:
        """Write on top of `deployment.revision` (0 creates); returns it with its new revision."""
        body = {**deployment.to_dict(), "revision": deployment.revision + 1}
        name = deployment.model.name
        with self._begin() as c:
            if deployment.revision == 0:
                insert = t.deployments.insert().values(model=name, revision=1, body=body)
                try:
                    c.execute(insert)
                except IntegrityError:
                    raise Conflict(f"model {name!r} is already deployed") from None
            else:
                changed = c.execute(
                    t.deployments.update()
                    .where(
                        t.deployments.c.model == name,
                        t.deployments.c.revision == deployment.revision,
                    )
                    .values(revision=deployment.revision + 1, body=body)
                )
                if changed.rowcount != 1:
                    raise Conflict(f"model {name!r} was changed by someone else; read it again")
        return Deployment.from_dict(body)

    # -- append-only records -------------------------------------------------------------------
    def add_window(self, window: Window) -> None:
        self._insert(t.windows, window.window_id, window.model, window.ended_at, window.to_dict())

    def add_finding(self, finding: Finding) -> None:
        self._insert(
            t.findings,
            finding.finding_id,
            finding.model,
            finding.at,
            finding.to_dict(),
            severity=finding.severity.value,
        )

    def add_decision(self, d: Decision) -> None:
        self._insert(t.decisions, d.decision_id, d.model, d.at, d.to_dict())

    def windows(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.windows, model, limit)

    def findings(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.findings, model, limit)

    def decisions(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.decisions, model, limit)

    def audit(self, actor: str, action: str, detail: Mapping[str, Any]) -> None:
        body = {"actor": actor, "action": action, **detail}
        with self._begin() as c:
            c.execute(t.audit.insert().values(at=datetime.now(UTC).isoformat(), body=body))

    def audits(self, limit: int = 100) -> list[Record]:
        with self._begin() as c:
            query = sa.select(t.audit).order_by(t.audit.c.number.desc()).limit(limit)
            return [{"at": row.at, **row.body} for row in c.execute(query)]

    def _insert(
        self, table: sa.Table, id_: str, model: str, at: datetime, body: Record, **columns: Any
    ) -> None:
        """Insert, or do nothing where the id is known: writers may safely repeat themselves."""
        with self._begin() as c:
            if c.execute(sa.select(table.c.id).where(table.c.id == id_)).first() is None:
                values = {"id": id_, "model": model, "at": at.isoformat(), "body": body, **columns}
                c.execute(table.insert().values(values))

    def _newest(self, table: sa.Table, model: str | None, limit: int) -> list[Record]:
        query = sa.select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._begin() as c:
            return [_record(row) for row in c.execute(query)]

    # -- alerts --------------------------------------------------------------------------------
    def raise_alert(self, alert_id: str, model: str, at: datetime, body: Record) -> None:
        """An alert groups the findings that one cause led to; states: open, acknowledged,
        closed."""
        self._insert(t.alerts, alert_id, model, at, body, state="open")

    def alerts(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.alerts, model, limit)

    def set_alert_state(self, alert_id: str, state: str) -> None:
        self._set(t.alerts, alert_id, {"state": state})

    def update_alert(self, alert_id: str, **fields: Any) -> None:
        """Merge `fields` into the alert's body, e.g. a further finding or its report."""
        with self._begin() as c:
            where = t.alerts.c.id == alert_id
            row = c.execute(sa.select(t.alerts).where(where)).first()
            if row is None:
                raise NotFound(f"there is no alert {alert_id!r}")
            c.execute(t.alerts.update().where(where).values(body={**row.body, **fields}))

    # -- retrains ------------------------------------------------------------------------------
    def request_retrain(self, id_: str, model: str, at: datetime, body: Record) -> Record:
        """Ask for a retrain; while one of the model is under way, that one is returned instead."""
        with self._begin() as c:
            active = c.execute(
                sa.select(t.retrains).where(
                    t.retrains.c.model == model, t.retrains.c.state.in_(ACTIVE_RETRAINS)
                )
            ).first()
            if active is not None:
                return _record(active)
            values = {"id": id_, "model": model, "at": at.isoformat(), "state": "requested"}
            c.execute(t.retrains.insert().values(**values, body=body))
        return {**body, "id": id_, "model": model, "at": at.isoformat(), "state": "requested"}

    def retrains(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.retrains, model, limit)

    def retrain(self, retrain_id: str) -> Record:
        return self._get(t.retrains, retrain_id)

    def active_retrains(self) -> list[Record]:
        """Requested or running ones, oldest first: after a crash, `running` ones are to resume."""
        query = sa.select(t.retrains).where(t.retrains.c.state.in_(ACTIVE_RETRAINS))
        with self._begin() as c:
            return [_record(row) for row in c.execute(query.order_by(t.retrains.c.at))]

    def update_retrain(self, retrain_id: str, *, state: str | None = None, **fields: Any) -> None:
        """Merge `fields` into the record's body. States: requested, running, succeeded, rejected
        (by the gate), failed, cancelled."""
        with self._begin() as c:
            where = t.retrains.c.id == retrain_id
            row = c.execute(sa.select(t.retrains).where(where)).first()
            if row is None:
                raise NotFound(f"there is no retrain {retrain_id!r}")
            values = {"body": {**row.body, **fields}, "state": state or row.state}
            c.execute(t.retrains.update().where(where).values(values))

    # -- rollouts ------------------------------------------------------------------------------
    def request_rollout(
        self, id_: str, candidate: ServedVersion, model: str, at: datetime, reason: str
    ) -> Record:
        """Ask the controller to canary a registered version, in state `pending`. The same id again
        returns the same record. Raises Conflict while another rollout of the model is active."""
        body = {"candidate": candidate.to_dict(), "reason": reason}
        with self._begin() as c:
            active = c.execute(
                sa.select(t.rollouts.c.id).where(
                    t.rollouts.c.model == model, t.rollouts.c.state.not_in(FINISHED_ROLLOUTS)
                )
            ).scalar()
            if active == id_:
                return self._record_in(c, t.rollouts, id_)
            if active is not None:
                raise Conflict(f"model {model!r} already has the rollout {active} under way")
            c.execute(
                t.rollouts.insert().values(
                    id=id_, model=model, at=at.isoformat(), state="pending", revision=1, body=body
                )
            )
            return self._record_in(c, t.rollouts, id_)

    def rollouts(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(t.rollouts, model, limit)

    def rollout(self, rollout_id: str) -> Record:
        return self._get(t.rollouts, rollout_id)

    def active_rollouts(self) -> list[Record]:
        query = sa.select(t.rollouts).where(t.rollouts.c.state.not_in(FINISHED_ROLLOUTS))
        with self._begin() as c:
            return [_record(row) for row in c.execute(query.order_by(t.rollouts.c.at))]

    def save_rollout(
        self, rollout_id: str, revision: int, state: str, body: Record, event: Record | None = None
    ) -> Record:
        """Write on top of `revision`, with the event that led there, in one transaction."""
        now = datetime.now(UTC).isoformat()
        with self._begin() as c:
            changed = c.execute(
                t.rollouts.update()
                .where(t.rollouts.c.id == rollout_id, t.rollouts.c.revision == revision)
                .values(state=state, revision=revision + 1, body=body)
            )
            if changed.rowcount != 1:
                raise Conflict(f"rollout {rollout_id} was changed by someone else; read it again")
            if event is not None:
                c.execute(
                    t.rollout_events.insert().values(rollout_id=rollout_id, at=now, body=event)
                )
            return self._record_in(c, t.rollouts, rollout_id)

    def rollout_events(self, rollout_id: str) -> list[Record]:
        """Oldest first."""
        query = sa.select(t.rollout_events).where(t.rollout_events.c.rollout_id == rollout_id)
        with self._begin() as c:
            rows = c.execute(query.order_by(t.rollout_events.c.number))
            return [{"at": row.at, **row.body} for row in rows]

    # -- cursors -------------------------------------------------------------------------------
    def cursor(self, name: str) -> Record | None:
        """Where a reader stands, e.g. the monitor's last judged window and its test's state."""
        with self._begin() as c:
            return c.execute(sa.select(t.cursors.c.body).where(t.cursors.c.name == name)).scalar()

    def put_cursor(self, name: str, body: Record) -> None:
        self._upsert(t.cursors, {"name": name}, {"body": body})

    def drop_cursor(self, name: str) -> None:
        with self._begin() as c:
            c.execute(sa.delete(t.cursors).where(t.cursors.c.name == name))

    # -- loss accounting -----------------------------------------------------------------------
    def put_ledger(
        self,
        replica: str,
        model: str,
        version: int,
        *,
        served: int,
        acked: int,
        spooled: int,
        dropped: dict[str, int],
    ) -> None:
        """Absolute counts of rows since the replica started: served = acked + spooled + dropped."""
        self._upsert(
            t.ledger,
            {"replica": replica, "model": model, "version": version},
            {"served": served, "acked": acked, "spooled": spooled, "dropped": dropped},
        )

    def ledger(self, model: str | None = None) -> list[Record]:
        query = sa.select(t.ledger)
        if model is not None:
            query = query.where(t.ledger.c.model == model)
        with self._begin() as c:
            return [dict(row._mapping) for row in c.execute(query)]

    # -- shared --------------------------------------------------------------------------------
    def _upsert(self, table: sa.Table, key: Record, values: Record) -> None:
        with self._begin() as c:
            where = [table.c[name] == value for name, value in key.items()]
            if c.execute(table.update().where(*where).values(values)).rowcount == 0:
                c.execute(table.insert().values({**key, **values}))

    def _set(self, table: sa.Table, id_: str, values: Record) -> None:
        with self._begin() as c:
            if c.execute(table.update().where(table.c.id == id_).values(values)).rowcount != 1:
                raise NotFound(f"there is no {table.name.removesuffix('s')} {id_!r}")

    def _get(self, table: sa.Table, id_: str) -> Record:
        with self._begin() as c:
            return self._record_in(c, table, id_)

    @staticmethod
    def _record_in(c: sa.Connection, table: sa.Table, id_: str) -> Record:
        row = c.execute(sa.select(table).where(table.c.id == id_)).first()
        if row is None:
            raise NotFound(f"there is no {table.name.removesuffix('s')} {id_!r}")
        return _record(row)


def _record(row: sa.Row[Any]) -> Record:
    """The body with the indexed columns laid over it."""
    return {**row.body, **{k: v for k, v in row._mapping.items() if k != "body"}}
