"""Commands that read predictions and labels: query, labels, export, tail."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from driftloop_cli.options import Invocation, Model, logged, stack_command
from driftloop_cli.table_layout import Rows
from driftloop_cli.terminal import Terminal, console, styled
from driftloop_contracts.errors import Rejected, RetryLater, Unavailable
from driftloop_contracts.event_times import parse_time

if TYPE_CHECKING:
    from driftloop_contracts.model import ModelSpec
    from driftloop_lake.views import QueryResult, Views
    from driftloop_settings import Settings

At = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only data predicted and received by then (ISO 8601)."),
]
Version = Annotated[
    str | None,
    typer.Option(
        metavar="N[:M]", help="Version of the predictions table [and of the labels table]."
    ),
]
Timeout = Annotated[float, typer.Option("--timeout-s", help="Stop after this many seconds.")]


@stack_command
@logged
def query(
    run: Invocation,
    name: Model,
    sql: Annotated[
        str, typer.Argument(metavar="SELECT", help="One SELECT; - reads it from stdin.")
    ],
    at: At = None,
    version: Version = None,
    limit: Annotated[int, typer.Option(help="The most rows to show in the table.")] = 100,
    timeout_s: Timeout = 300.0,
) -> None:
    """Query the lake in SQL. Read-only.

    Views: predictions (prediction_id, row, version, arm, predicted_at, a column for each input and
    output), labels (prediction_id, row, value, observed_at, received_at, source, metric, tags),
    labelled, predictions with their latest label, and shadows, what candidates answered unseen
    (prediction_id, row, version, arm, predicted_at, a column for each output, error). `DESCRIBE
    predictions` lists the columns. --json prints an array of objects, of any size, while the query
    runs.
    """
    from driftloop_cli.rows import write_json_array

    views = _views(run.settings, name, at, version)
    answer = views.ask(sys.stdin.read() if sql == "-" else sql, timeout_s)
    _until_interrupted(
        answer,
        lambda: (
            write_json_array(answer, sys.stdout) if run.as_json else _show(answer, views, limit)
        ),
    )


def _show(answer: "QueryResult", views: "Views", limit: int) -> None:
    from driftloop_cli.rows import cell

    rows: list[list[str]] = []
    more = False
    for batch in answer:
        room = limit - len(rows)
        for row in batch.slice(0, room).to_pylist():
            rows.append([cell(row[column]) for column in answer.columns])
        more = batch.num_rows > room
        if more:
            break
    out = Terminal()
    out.show(Rows(answer.columns, rows).lines(out.width_limit))
    held = f"predictions@{views.version.predictions} labels@{views.version.labels}"
    rest = f"the first {limit} rows; --limit or --json gives more" if more else None
    console.print(styled((f"{rest or f'{len(rows)} rows'} ({held})", "dim")))


@stack_command
def labels(
    run: Invocation,
    name: Model,
    at: At = None,
) -> None:
    """Show how many predictions of each version have a label, and how long labels take.

    `by 1 h` is the share of rows at least an hour old that got a label within the hour:
    versions of any age are comparable by it. A running stack is asked; without one, or with --set
    or --config, the lake of the settings is read.
    """
    from driftloop_cli.label_view import arrival_rows, unjudged

    time = _time(at, "--at")
    document = _asked_labels(run, name, time) or _read_labels(run, model=name, at=time)

    def show() -> None:
        console.show(arrival_rows(document["versions"]).lines(console.width_limit))
        for sentence in unjudged(name, document["versions"], document["keys"]):
            console.print(styled((sentence, "yellow")))

    run.emit(document, show)


def _asked_labels(run: Invocation, model: str, at: datetime | None) -> dict[str, Any] | None:
    """Return the answer of the running stack; None without one, or if the lake is too large for the
    control API, which has others to serve."""
    from driftloop_cli.control_client import ControlClient

    if run.sets or run.config:
        return None
    params = {} if at is None else {"at": at.isoformat()}
    with suppress(RetryLater, Unavailable):
        found: dict[str, Any] = ControlClient(run.folder).get(
            f"/api/models/{quote(model, safe='')}/labels", **params
        )
        return found
    return None


@logged
def _read_labels(run: Invocation, model: str, at: datetime | None) -> dict[str, Any]:
    from driftloop_lake.label_arrival import arrival_document
    from driftloop_lake.views import Resources

    spec, now = _spec(run.settings, model), datetime.now(UTC)
    return arrival_document(run.settings.lake_uri, model, spec, at, now, Resources(), 300.0)


@stack_command
@logged
def export(
    run: Invocation,
    name: Model,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The file to write.")],
    kind: Annotated[
        str | None, typer.Option("--format", help="parquet or csv.  [default: by PATH's ending]")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Predictions from then on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Predictions before then.")
    ] = None,
    labelled: Annotated[
        bool, typer.Option("--labelled", help="Only labelled rows, with their label.")
    ] = False,
    at: At = None,
    version: Version = None,
    timeout_s: Timeout = 86_400.0,
) -> None:
    """Write predictions to a file, unordered. PATH is written atomically."""
    from driftloop_cli.rows import write_file

    kind = kind or out.suffix.lstrip(".")
    if kind not in ("parquet", "csv"):
        raise Rejected(f"--format {kind!r}: must be parquet or csv")
    views = _views(run.settings, name, at, version)
    bounds = [
        f"predicted_at {sign} TIMESTAMPTZ '{time.isoformat()}'"
        for sign, time in ((">=", _time(since, "--from")), ("<", _time(until, "--to")))
        if time is not None
    ]
    view = "labelled" if labelled else "predictions"
    where = f"{view} WHERE {' AND '.join(bounds)}" if bounds else view
    (total,) = [b.column(0)[0].as_py() for b in views.ask(f"SELECT count(*) FROM {where}")]
    answer = views.ask(f"SELECT * FROM {where}", timeout_s)

    def write() -> None:
        rows = write_file(answer, out, kind, total, None if run.as_json else console)
        document = {
            "path": str(out),
            "format": kind,
            "rows": rows,
            "bytes": out.stat().st_size,
            "predictions": views.version.predictions,
            "labels": views.version.labels,
        }
        run.emit(document, lambda: console.print(f"wrote {rows:,} rows to {out}"))

    _until_interrupted(answer, write)


@stack_command
@logged
def tail(
    run: Invocation,
    name: Model,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Also print labels, of all models: a label does not name its model."
        ),
    ] = False,
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Start with the oldest records that Kafka still has."),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after this number of lines.")
    ] = None,
) -> None:
    """Print predictions as they arrive, one JSON object a line, until Ctrl-C."""
    from driftloop_bus import connect
    from driftloop_cli.tail import follow

    bus = connect(_with_running_broker(run.settings))
    try:
        for line in follow(bus, name, labels, from_start, limit):
            sys.stdout.write(line)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        _leave_closed_pipe()


def _with_running_broker(settings: "Settings") -> "Settings":
    """Where a stack runs, its broker, on whichever port that got."""
    from driftloop_settings.run_state import read_run_state

    running = read_run_state(settings.state_dir)
    if running is None or not running.supervisor.alive():
        return settings
    servers = {"bootstrap_servers": running.endpoints["kafka"]}
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=servers)})


def _views(settings: "Settings", model: str, at: str | None, version: str | None) -> "Views":
    from driftloop_lake import views

    spec = _spec(settings, model)
    return views.open_views(
        settings.lake_uri,
        model,
        output=spec.output if spec else None,
        at=_time(at, "--at"),
        version=None if version is None else views.Version.parse(version),
    )


def _spec(settings: "Settings", model: str) -> "ModelSpec | None":
    """The model's spec; None if the store does not know the model."""
    from driftloop_store import open_store

    path = settings.store_url.removeprefix("sqlite:///")
    if path != settings.store_url and not Path(path).is_file():
        return None  # the lake has no store: reading must not create one
    deployment = open_store(settings.store_url).deployment(model)
    return deployment.model if deployment else None


def _time(text: str | None, option: str) -> datetime | None:
    return None if text is None else parse_time(text, option)


def _until_interrupted(answer: "QueryResult", act: Callable[[], None]) -> None:
    try:
        act()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        _leave_closed_pipe()
    finally:
        answer.close()


def _leave_closed_pipe() -> None:
    """The reader (such as `head`) has closed the pipe; keep Python from flushing to it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
