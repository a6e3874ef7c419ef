"""The commands `logs` and `bundle`."""

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from driftloop_cli.options import Invocation, logged, stack_command
from driftloop_cli.terminal import console, printable
from driftloop_contracts.durations import seconds_of

if TYPE_CHECKING:
    from driftloop_cli.log_events import LogEvent

POLL_S = 0.3
NEWEST = 200


@stack_command
def logs(
    run: Invocation,
    role: Annotated[
        str | None, typer.Argument(metavar="[ROLE]", help="Such as gateway or monitor; else all.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then show new events as they come.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only events that concern this model.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 10m, 4h or 2d.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the newest.  [default: 200 without --since]")
    ] = None,
) -> None:
    """Show what the roles of this machine logged, merged by time: one event a line.

    With --json each line is one JSON object. Times are in UTC.
    """
    from driftloop_cli.log_files import LAST_BYTES, Logs, log_files

    least = datetime.now(UTC) - timedelta(seconds=seconds_of(since, "--since")) if since else None

    def keep(event: "LogEvent") -> bool:
        recent = least is None or (event.at is not None and event.at >= least)
        return recent and (model is None or event.concerns(model))

    def write(event: "LogEvent") -> None:
        line = event.to_json() if run.as_json else printable(event.to_line())
        sys.stdout.write(line + "\n")

    def wait() -> bool:
        sys.stdout.flush()
        time.sleep(POLL_S)
        return True

    last_bytes = None if since else LAST_BYTES
    found = Logs(log_files(run.folder, role), keep, last_bytes)
    newest = limit or (None if since else NEWEST)
    events = found.read()
    for event in events[-newest:] if newest else events:
        write(event)
    if follow:
        try:
            for event in found.follow(wait):
                write(event)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


@stack_command
@logged
def bundle(
    run: Invocation,
    output: Annotated[
        Path | None,
        typer.Option(help="The file.  [default: driftloop-bundle-TIME.zip in this folder]"),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="How far back the logs go, such as 4h or 2d.")
    ] = "1d",
) -> None:
    """Write a zip file for support: versions, settings, state, recent logs, findings, decisions.

    It has no passwords or keys and no rows: quoted text of logs and reasons is left out
    unless it is the name of a model, a column or a role.
    """
    from driftloop_cli.support_bundle import write_bundle

    now = datetime.now(UTC)
    path = output or Path(f"driftloop-bundle-{now:%Y%m%dT%H%M%SZ}.zip")
    since_s = seconds_of(since, "--since")
    names = write_bundle(run.settings, path, now - timedelta(seconds=since_s), now)
    written = {"path": str(path), "files": names}
    run.emit(written, lambda: console.print(f"wrote {path}: {', '.join(names)}"))
