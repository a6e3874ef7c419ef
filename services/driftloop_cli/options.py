"""Options that every command has, and how a command answers: for people, or as one JSON
document."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from driftloop_contracts.errors import DriftloopError
from driftloop_settings import Settings, load_settings

Model = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="DRIFTLOOP_STATE_DIR",
        help="Where the stack keeps everything.  [default: .driftloop]",
        show_envvar=True,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Overrides a setting; may be repeated."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="A settings file.  [default: driftloop.toml, if there is one]"),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")
]

console = Console(stderr=True, highlight=False)
"""Words for people go to standard error, so that standard output can be piped."""


def settings_from(
    state_dir: Path | None, sets: list[str] | None, config: Path | None = None
) -> Settings:
    return load_settings(sets or (), state_dir=state_dir, file=config)


def emit(document: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Print the document as JSON, or call `show`, which prints it for people."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
    else:
        show()


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turn driftloop's errors into one sentence (or document) and exit code 1."""
    try:
        yield
    except DriftloopError as error:
        if as_json:
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        else:
            console.print(f"[red]error:[/red] {error}", markup=True)
        raise typer.Exit(1) from None
