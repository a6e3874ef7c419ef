"""A store of an earlier release is upgraded; one of a later release is refused."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from driftloop_contracts.errors import Unavailable
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_store import open_store
from driftloop_store.schema import migrate

AT = "2026-11-24T12:00:00+00:00"
CHANGE = {"row": 3, "at": AT, "rows": 4, "mean_loss": 0.5}
TEST = {"bets": [], "rows": 7, "loss": 2.0, "alarm": CHANGE, "log_e": 9.0}
JUDGE = {
    "judge": "j", "asked": 1, "whole": True, "reference": [], "rated": [], "rated_until": None,
    "test": {**TEST, "alarm": None}, "alarmed": True,
}  # fmt: skip
MONITOR = {
    "version": 1, "schedule_checked": AT, "windowed": None, "tested": None, "test": TEST,
    "broken": [], "drifted": ["alarm"], "outbox": [], "topic": "alarm/drift_alone", "decisions": 2,
    "loss": {}, "nats": [], "judge": JUDGE,
}  # fmt: skip
ALARM = {
    "kind": "performance", "severity": "critical", "message": "worse", "version": 1,
    "findings": ["f"], "window": "w", "change_at": AT, "report": None,
}  # fmt: skip
LOADED = {"replicas": 2, "alarm": {"version": 1}}  # of a model's readers, not the monitor's


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def of_the_first_release(url: str, **rows: dict[str, Any]) -> None:
    """Return a store at revision 0001 with one row in each of the named tables."""
    engine = sa.create_engine(url)
    migrate(engine, "0001")
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for name, row in rows.items():
            connection.execute(tables.tables[name].insert().values(row))
    engine.dispose()


def record(id_: str, model: str, body: dict[str, Any], **columns: str) -> dict[str, Any]:
    return {"id": id_, "model": model, "at": AT, "body": body, **columns}


def test_alarms_of_the_first_release_are_alerts(url: str) -> None:
    of_the_first_release(url, alarms=record("a", "m", ALARM, state="open"))
    (alert,) = open_store(url).alerts()
    assert (alert.id, alert.state, alert.message) == ("a", "open", "worse")


def test_what_an_alarm_triggered_was_triggered_by_an_alert(url: str) -> None:
    decision = {"trigger": "alarm", "model": "alarm", "evidence": {"alarm": True, "rise": 0.2}}
    of_the_first_release(
        url,
        decisions=record("d", "alarm", decision),
        retrains=record("r", "alarm", {"trigger": "alarm", "reason": "x"}, state="succeeded"),
    )
    store = open_store(url)
    (decided,) = store.decisions()
    assert (decided["trigger"], decided["model"]) == ("alert", "alarm")
    assert decided["evidence"] == {"alert": True, "rise": 0.2}
    assert store.retrain("r").trigger == "alert"


def test_the_audit_names_the_alert(url: str) -> None:
    body = {"actor": "operator", "action": "acknowledge", "alarm": "a"}
    of_the_first_release(url, audit={"at": AT, "body": body})
    (entry,) = open_store(url).audits()
    assert (entry["action"], entry["alert"]) == ("acknowledge", "a")


def test_the_monitor_resumes_where_it_stopped(url: str) -> None:
    of_the_first_release(url, cursors={"name": "monitor/m", "body": MONITOR})
    saved = open_store(url).cursor("monitor/m")
    assert saved is not None
    state = MonitorState.from_dict(saved)
    assert state.test.alert is not None
    assert state.test.alert.rows == 4
    assert state.judge is not None
    assert state.judge.alerted
    assert state.topic == "alert/drift_alone"
    assert state.drifted == ("alarm",)


def test_a_record_of_others_keeps_the_names_in_it(url: str) -> None:
    of_the_first_release(url, cursors={"name": "loaded:m", "body": LOADED})
    assert open_store(url).cursor("loaded:m") == LOADED


def test_a_store_of_a_newer_release_is_refused_and_unchanged(url: str) -> None:
    open_store(url).put_cursor("c", {"n": 1})
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unavailable, match=r"newer release.*9999.*Install"):
        open_store(url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        assert connection.execute(sa.text("SELECT count(*) FROM cursors")).scalar() == 1
