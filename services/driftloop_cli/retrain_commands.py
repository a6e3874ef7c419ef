"""The command `retrains`: what became of requests to retrain, with each attempt."""

from typing import Annotated

import typer

from driftloop_cli.control_client import ControlClient
from driftloop_cli.options import Invocation, Model, stack_command
from driftloop_cli.table_layout import Rows
from driftloop_cli.terminal import console
from driftloop_contracts.errors import NotFound
from driftloop_contracts.retrain import Retrain, attempts_of

retrains = typer.Typer(help="Retrains, and each of their attempts.", no_args_is_help=True)


@retrains.command("list")
@stack_command
def list_(
    run: Invocation,
    model: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
) -> None:
    """List retrains, newest first."""
    client = ControlClient(run.folder)
    found = client.get("/api/retrains", **({"model": model} if model else {}))
    rows = retrain_rows([Retrain.from_dict(record) for record in found])
    run.emit(found, lambda: console.show(rows.lines(console.width_limit)))


@retrains.command("show")
@stack_command
def show(
    run: Invocation,
    model: Model,
    retrain: Annotated[
        str | None, typer.Argument(metavar="[RETRAIN]", help="Its id, or how it begins.")
    ] = None,
) -> None:
    """Show a retrain of a model, by default the newest one, with all its attempts: one that
    failed is tried again later."""
    client = ControlClient(run.folder)
    known = [Retrain.from_dict(each) for each in client.get("/api/retrains", model=model)]
    asked = [each for each in known if each.id.startswith(retrain or "")]
    if not asked:
        named = f" that begins with {retrain!r}" if retrain else ""
        raise NotFound(f"model {model!r} has no retrain{named}")
    attempts = attempts_of(asked[0], known)

    def show() -> None:
        console.show(retrain_rows(attempts).lines(console.width_limit))
        last = attempts[-1]
        if last.version is not None:
            console.print(
                f"it gave version {last.version}: driftloop report {model} {last.version}"
            )

    run.emit([each.to_dict() for each in attempts], show)


def retrain_rows(found: list[Retrain]) -> Rows:
    return Rows(
        ("retrain", "requested", "model", "trigger", "attempt", "state", "version", "what"),
        [
            (
                each.id[:8],
                each.at.isoformat()[:19],
                each.model,
                each.trigger,
                str(each.attempt),
                str(each.state),
                str(each.version or "–"),
                _what(each),
            )
            for each in found
        ],
        frozenset({"what"}),
    )


def _what(retrain: Retrain) -> str:
    if retrain.reasons:
        return "; ".join(retrain.reasons)
    if retrain.active and retrain.progress is not None:
        return retrain.progress.message
    return retrain.reason
