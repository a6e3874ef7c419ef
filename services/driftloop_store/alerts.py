"""Alerts: each groups the findings that one cause led to."""

from datetime import datetime
from typing import Any

from driftloop_store.database import Database, Record
from driftloop_store.tables import alerts as table


class Alerts(Database):
    def raise_alert(self, alert_id: str, model: str, at: datetime, body: Record) -> None:
        """States: open, acknowledged, closed."""
        self._append(table, alert_id, model, at, body, state="open", revision=1)

    def alerts(self, model: str | None = None, limit: int = 100) -> list[Record]:
        return self._newest(table, model, limit)

    def set_alert_state(self, alert_id: str, state: str) -> None:
        self._change(table, alert_id, lambda _: {"state": state})

    def update_alert(self, alert_id: str, **fields: Any) -> None:
        """Merge `fields` into the alert's body, e.g. a further finding or its report."""
        self._change(table, alert_id, lambda row: {"body": {**row.body, **fields}})
