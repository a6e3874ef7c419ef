"""Records with a life cycle, whose transitions are defined by a table."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from driftloop_contracts.errors import Conflict

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


def follow(
    transitions: Mapping[tuple[State, Event], State], state: State, event: Event, what: str
) -> State:
    """Return the state after the event. Raises Conflict, naming `what`, for a pair that is not
    listed."""
    after = transitions.get((state, event))
    if after is None:
        raise Conflict(f"{what} is {state}: `{event}` is not possible")
    return after


def finished(transitions: Mapping[tuple[State, Event], State]) -> tuple[State, ...]:
    """Return the final states, in the order of their class."""
    left = {state for state, _ in transitions}
    states = type(next(iter(left)))
    return tuple(state for state in states if state not in left)


def diagram(start: State, transitions: Mapping[tuple[State, Event], State]) -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {a} --> {b}: {event}" for (a, event), b in transitions.items()]
    lines += [f"    {state} --> [*]" for state in finished(transitions)]
    return "\n".join(lines) + "\n"
