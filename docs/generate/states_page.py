"""docs/reference/states.md, drawn from the transition tables."""

from layout import page

from driftloop_contracts import alert, incident, retrain
from driftloop_contracts.transitions import diagram
from driftloop_rollout import machine

INTRODUCTION = """\
What has a life moves only along its table; a pair of state and event that the table does not list
is refused with 409 and changes nothing."""


def render() -> str:
    drawn = {
        "Retrain": diagram(retrain.RetrainState.REQUESTED, retrain.TRANSITIONS),
        "Rollout": diagram(machine.State.PENDING, machine.TRANSITIONS),
        "Alert": diagram(alert.AlertState.OPEN, alert.TRANSITIONS),
        "Incident": diagram(incident.IncidentState.OPEN, incident.TRANSITIONS),
    }
    sections = [f"## {name}\n\n```mermaid\n{picture}```" for name, picture in drawn.items()]
    return page("States", INTRODUCTION, *sections)
