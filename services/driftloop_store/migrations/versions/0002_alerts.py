"""Alarms are called alerts: the table, and the records that say so."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Body = dict[str, Any]


def upgrade() -> None:
    for column in ("model", "at"):
        op.drop_index(f"ix_alarms_{column}", "alarms")
    op.rename_table("alarms", "alerts")
    for column in ("model", "at"):
        op.create_index(f"ix_alerts_{column}", "alerts", [column])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX alarms_pkey RENAME TO alerts_pkey")
    _rewrite("decisions", "id", _decision)
    _rewrite("retrains", "id", _triggered)
    _rewrite("audit", "number", lambda body: _renamed(body, "alarm", "alert"))
    _rewrite("cursors", "name", _monitor_state)


def _rewrite(table: str, key: str, change: Callable[[Body], Body]) -> None:
    """Change the bodies of a table. Only the places that say `alarm` in the monitor's sense are
    looked at: a model or a feature may have that name, too."""
    rows = sa.table(table, sa.column(key), sa.column("body", sa.JSON))
    connection = op.get_bind()
    for row_key, body in connection.execute(sa.select(rows)).all():
        if (changed := change(body)) != body:
            where = rows.c[key] == row_key
            connection.execute(sa.update(rows).where(where).values(body=changed))


def _renamed(body: Body, old: str, new: str) -> Body:
    return {new if key == old else key: value for key, value in body.items()}


def _triggered(body: Body) -> Body:
    return {**body, "trigger": "alert"} if body.get("trigger") == "alarm" else body


def _decision(body: Body) -> Body:
    evidence = _renamed(body.get("evidence") or {}, "alarm", "alert")
    return {**_triggered(body), "evidence": evidence}


def _monitor_state(body: Body) -> Body:
    """Of the monitor; cursors of others have no `test` and no `topic`."""
    if not {"test", "topic"} <= body.keys():
        return body
    topic, judge = body["topic"], body.get("judge")
    if judge:
        judge = {**_renamed(judge, "alarmed", "alerted"), "test": _test(judge["test"])}
    return {
        **body,
        "test": _test(body["test"]),
        "topic": "alert/" + topic[6:] if topic.startswith("alarm/") else topic,
        **({"judge": judge} if judge else {}),
    }


def _test(body: Body) -> Body:
    return _renamed(body, "alarm", "alert")
