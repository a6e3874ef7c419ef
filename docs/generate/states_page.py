"""docs/reference/states.md, drawn from the transition tables."""

from layout import page

from driftloop_rollout.machine import diagram

INTRODUCTION = """\
What has a life moves only along its table; a pair of state and event that the table does not list
is refused with 409 and changes nothing."""


def render() -> str:
    return page("States", INTRODUCTION, "## Rollout", f"```mermaid\n{diagram()}```")
