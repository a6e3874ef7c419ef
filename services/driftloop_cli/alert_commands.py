"""The command `alerts`: incidents, and the routes that they take to people."""

import time
from typing import Annotated, Any

import typer

from driftloop_cli.control_client import ControlClient
from driftloop_cli.options import Invocation, stack_command
from driftloop_cli.table_layout import Rows
from driftloop_cli.terminal import console, styled
from driftloop_contracts.durations import seconds_of
from driftloop_contracts.errors import Rejected

TEST_TIMEOUT_S = 60.0
STYLES = {"open": "red", "acknowledged": "yellow", "silenced": "yellow", "resolved": "green"}

alerts = typer.Typer(help="Incidents, and the routes that they take to people.")

Incident = Annotated[str, typer.Argument(metavar="INCIDENT", help="Its id, or how it begins.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept in the incident's history.")]
By = Annotated[str, typer.Option("--by", envvar="USER", help="Who says so.", show_envvar=False)]


@alerts.callback(invoke_without_command=True)
@stack_command
def default(
    run: Invocation,
    ctx: typer.Context,  # noqa: ARG001  # `stack_command` looks whether a subcommand follows
) -> None:
    """Incidents, and the routes that they take to people. Without a command: list."""
    show_incidents(run, None, False)


@alerts.command("list")
@stack_command
def list_(
    run: Invocation,
    model: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
) -> None:
    """List incidents that are not resolved, newest first."""
    show_incidents(run, model, every)


def show_incidents(run: Invocation, model: str | None, every: bool) -> None:
    client = ControlClient(run.folder)
    asked = {"unresolved": str(not every).lower(), **({"model": model} if model else {})}
    found = client.get("/api/incidents", **asked)

    def show() -> None:
        if not found:
            console.print("no incident is open" if not every else "there was no incident")
        else:
            console.show(incident_rows(found).lines(console.width_limit))

    run.emit(found, show)


def incident_rows(incidents: list[dict[str, Any]]) -> Rows:
    return Rows(
        ("incident", "since", "model", "cause", "severity", "state", "what"),
        [
            (
                found["id"][:8],
                found["at"][:19],
                found["model"] or found["subject"] or "–",
                found["cause"],
                found["urgency"] + (" (hidden)" if found["hidden_by"] else ""),
                (found["state"], STYLES.get(found["state"], "")),
                found["message"],
            )
            for found in incidents
        ],
        frozenset({"what"}),
    )


@alerts.command()
@stack_command
def ack(run: Invocation, incident: Incident, reason: Reason = "", by: By = "operator") -> None:
    """Acknowledge an incident: it is not repeated any more."""
    client = ControlClient(run.folder)
    path = f"/api/incidents/{_id_of(client, incident)}/ack"
    changed = client.post(path, {"actor": by, "reason": reason})
    run.emit(changed, lambda: console.print(f"incident {changed['id'][:8]} is acknowledged"))


@alerts.command()
@stack_command
def silence(
    run: Invocation,
    incident: Incident,
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="Such as 30m, 4h or 2d.")
    ] = "4h",
    reason: Reason = "",
    by: By = "operator",
) -> None:
    """Send nothing about an incident for some time; when that ends, it is said."""
    for_s = seconds_of(duration, "--for")
    client = ControlClient(run.folder)
    path = f"/api/incidents/{_id_of(client, incident)}/silence"
    changed = client.post(path, {"for_s": for_s, "actor": by, "reason": reason})
    until = changed["silenced_until"][:19]
    run.emit(
        changed, lambda: console.print(f"incident {changed['id'][:8]} is silent until {until}")
    )


@alerts.command("test")
@stack_command
def trial(
    run: Invocation,
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="Its name in the settings.")],
    by: By = "operator",
) -> None:
    """Send a test on a route, and wait until the receiver has it."""
    client = ControlClient(run.folder)
    incident = client.post("/api/routes/test", {"route": route, "actor": by})
    deadline = time.monotonic() + TEST_TIMEOUT_S
    while True:
        notices = client.get(f"/api/incidents/{incident['id']}")["notices"]
        if notices and all(notice["delivery"] == "sent" for notice in notices):
            run.emit(notices, lambda: console.print(f"the receiver of {route} has the test"))
            return
        if time.monotonic() > deadline:
            last = next(r["last"] for r in client.get("/api/routes") if r["name"] == route)
            why = (last or {}).get("error") or "the role `alerts` has not sent it yet"
            raise Rejected(f"the test did not arrive on {route}: {why}")
        time.sleep(0.5)


@alerts.command()
@stack_command
def explain(
    run: Invocation,
    model: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")],
    cause: Annotated[
        str, typer.Option(help="Such as performance, quality, drift, rollback.")
    ] = "performance",
) -> None:
    """Say which routes would take an incident of a model, and why the others would not."""
    client = ControlClient(run.folder)
    found = client.get("/api/routes/explain", model=model, cause=cause)

    def show() -> None:
        if not found:
            console.print("there is no route; `[[alerts.routes]]` in the settings adds one")
        for each in found:
            mark = ("yes", "green") if each["takes"] else ("no ", "dim")
            console.print(styled(mark, f" {each['route']}: {each['why']}"))

    run.emit(found, show)


def _id_of(client: ControlClient, beginning: str) -> str:
    """Raises Rejected if several begin so, or none."""
    ids = [i["id"] for i in client.get("/api/incidents", unresolved="true", limit=10_000)]
    found = [id_ for id_ in ids if id_.startswith(beginning)]
    if len(found) == 1:
        return str(found[0])
    several = f"{len(found)} unresolved incidents begin with {beginning!r}; write more of the id"
    raise Rejected(several if found else f"no unresolved incident begins with {beginning!r}")
