"""Alerts: each groups the findings with one cause."""

from collections.abc import Callable

import sqlalchemy as sa

from driftloop_contracts.alert import Alert, AlertState
from driftloop_store.database import Database, as_record, columns_of
from driftloop_store.tables import alerts as table


class Alerts(Database):
    def raise_alert(self, alert: Alert) -> None:
        """Store an alert. Does nothing if the id exists."""
        self._insert(table, columns_of(alert.to_dict()))

    def alerts(self, model: str | None = None, limit: int | None = 100) -> list[Alert]:
        """Return alerts, newest first; all if `limit` is None."""
        return [Alert.from_dict(record) for record in self._newest(table, model, limit)]

    def open_alerts(self, model: str | None = None) -> list[Alert]:
        """All that are not closed, oldest first."""
        query = sa.select(table).where(table.c.state != AlertState.CLOSED)
        if model is not None:
            query = query.where(table.c.model == model)
        with self._read() as c:
            rows = c.execute(query.order_by(table.c.at, table.c.id))
            return [Alert.from_dict(as_record(row)) for row in rows]

    def change_alert(self, alert_id: str, change: Callable[[Alert], Alert]) -> Alert:
        """Replace an alert by the result of `change`, if its revision is unchanged; otherwise
        `change` is called again with the new state. An exception of `change` leaves the alert
        unchanged."""
        record = self._change(
            table, alert_id, lambda record: change(Alert.from_dict(record)).to_dict()
        )
        return Alert.from_dict(record)
