"""The tables of what has a life: a pair that is not listed raises and changes nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from alert_cases import performance_alert
from incident_cases import incident_of

from driftloop_contracts import alert, incident, retrain
from driftloop_contracts.alert import Alert, AlertEvent, AlertState
from driftloop_contracts.errors import Conflict
from driftloop_contracts.incident import Delivery, Incident, IncidentEvent, IncidentState
from driftloop_contracts.retrain import Retrain, RetrainEvent, RetrainState
from driftloop_contracts.transitions import diagram, finished

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STATES_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "states.md"


def retrain_in(state: RetrainState) -> Retrain:
    return Retrain(id="r", model="m", at=NOW, state=state)


def alert_in(state: AlertState) -> Alert:
    return performance_alert(NOW, state=state)


@pytest.mark.parametrize(("state", "event"), product(RetrainState, RetrainEvent))
def test_a_retrain_moves_only_along_its_table(state: RetrainState, event: RetrainEvent) -> None:
    before = retrain_in(state)
    if (state, event) in retrain.TRANSITIONS:
        assert before.after(event).state is retrain.TRANSITIONS[state, event]
    else:
        with pytest.raises(Conflict, match=f"retrain r is {state}: `{event}` is not possible"):
            before.after(event)


@pytest.mark.parametrize(("state", "event"), product(AlertState, AlertEvent))
def test_an_alert_moves_only_along_its_table(state: AlertState, event: AlertEvent) -> None:
    before = alert_in(state)
    if (state, event) in alert.TRANSITIONS:
        assert before.after(event).state is alert.TRANSITIONS[state, event]
    else:
        with pytest.raises(Conflict, match=f"alert a is {state}: `{event}` is not possible"):
            before.after(event)


def incident_in(state: IncidentState) -> Incident:
    return incident_of(NOW, state=state, told={"night": NOW}, evidence={"key": "w"})


@pytest.mark.parametrize(("state", "event"), product(IncidentState, IncidentEvent))
def test_an_incident_moves_only_along_its_table(state: IncidentState, event: IncidentEvent) -> None:
    before = incident_in(state)
    if (state, event) in incident.TRANSITIONS:
        assert before.after(event, NOW).state is incident.TRANSITIONS[state, event]
    else:
        with pytest.raises(Conflict, match=f"incident i is {state}: `{event}` is not possible"):
            before.after(event, NOW)


def test_a_cancelled_retrain_and_a_closed_alert_stay_so() -> None:
    assert RetrainState.CANCELLED in finished(retrain.TRANSITIONS)
    assert finished(alert.TRANSITIONS) == (AlertState.CLOSED,)
    assert finished(incident.TRANSITIONS) == (IncidentState.RESOLVED,)


def test_an_alert_takes_so_many_findings_and_each_once() -> None:
    full = alert_in(AlertState.OPEN).attach(map(str, range(1_000))).attach(["f"])
    assert len(full.findings) == alert.MAX_FINDINGS
    assert full.findings[:3] == ("f", "0", "1")
    assert full.holds(["anything"])


@pytest.mark.parametrize(
    "record",
    [
        retrain_in(RetrainState.RUNNING),
        alert_in(AlertState.OPEN),
        incident_in(IncidentState.ACKNOWLEDGED),
        Delivery(id="d", route="night", at=NOW, next_at=NOW, message={"title": "x"}, sent_at=NOW),
    ],
)
def test_a_record_comes_back_from_json_as_it_was(record: Any) -> None:
    assert type(record).from_dict(record.to_dict()) == record


@pytest.mark.parametrize(
    ("start", "table"),
    [
        (RetrainState.REQUESTED, retrain.TRANSITIONS),
        (AlertState.OPEN, alert.TRANSITIONS),
        (IncidentState.OPEN, incident.TRANSITIONS),
    ],
    ids=["retrain", "alert", "incident"],
)
def test_the_picture_in_the_docs_is_drawn_from_the_table(
    start: StrEnum, table: Mapping[tuple[StrEnum, StrEnum], StrEnum]
) -> None:
    assert f"```mermaid\n{diagram(start, table)}```" in STATES_PAGE.read_text(), (
        "run `make reference`"
    )
