"""The options common to all commands, and their output for people or as one JSON document."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, NoReturn, TypeVar

import typer

from driftloop_cli.terminal import console, styled
from driftloop_contracts.errors import DriftloopError
from driftloop_settings.state_path import DEFAULT_STATE_DIR, absolute_state_dir, is_all_that_is_set

if TYPE_CHECKING:
    from driftloop_settings import Settings

T = TypeVar("T")
Model = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="DRIFTLOOP_STATE_DIR",
        help="The folder of the stack's data. [default: .driftloop]",
        show_envvar=True,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="A settings file.  [default: driftloop.toml, if there is one]"),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print only one JSON document, to standard output.")
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Let other machines in (`serving.host`, `control.host`), though nothing asks who "
        "calls.",
    ),
]


@dataclass(frozen=True)
class Invocation:
    """The arguments common to all commands: the location of the stack, its settings, and the output
    format."""

    state_dir: Path | None = None
    sets: tuple[str, ...] = ()
    config: Path | None = None
    as_json: bool = False

    @cached_property
    def settings(self) -> "Settings":
        from driftloop_settings import load_settings

        return load_settings(self.sets, state_dir=self.state_dir, file=self.config)

    @cached_property
    def folder(self) -> Path:
        """The state directory, absolute. Raises Rejected if any setting is wrong; if none is set
        their classes are not imported, which takes longer than most commands."""
        if is_all_that_is_set(self.state_dir, self.sets, self.config):
            return absolute_state_dir(self.state_dir or DEFAULT_STATE_DIR)
        return self.settings.state_dir

    @property
    def known_state_dir(self) -> Path:
        """The state directory, or what is known of it while the settings are not read."""
        known: Path | None = self.__dict__.get("folder")
        return known or self.state_dir or DEFAULT_STATE_DIR

    def with_insecure(self, insecure: bool) -> "Invocation":
        return replace(self, sets=(*self.sets, "control.insecure=true")) if insecure else self

    def emit(self, document: Any, show: Callable[[], None]) -> None:
        """Print the document as JSON, or call `show`, which prints it for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
        else:
            show()


def logged(
    command: Callable[Concatenate[Invocation, ...], T],
) -> Callable[Concatenate[Invocation, ...], T]:
    """For a command that opens the store, the lake or the registry itself: what they log goes to
    standard error. Others do not pay for the import."""

    @wraps(command)
    def run(invocation: Invocation, /, **arguments: Any) -> T:
        from driftloop_settings.logs import log_to_stderr

        log_to_stderr()
        return command(invocation, **arguments)

    return run


def stack_command(command: Callable[Concatenate[Invocation, ...], None]) -> Callable[..., None]:
    """Add the four common options to a command: `--state-dir`, `--set`, `--config`, `--json`.

    The command receives them as an `Invocation`, its first argument. driftloop's errors end it as
    described in `reported`. What runs for a group (it has `ctx`) runs only without a subcommand.
    """
    own = list(signature(command, eval_str=True).parameters.values())[1:]
    common = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in (
            ("state_dir", StateDir, None),
            ("sets", Sets, None),
            ("config", ConfigFile, None),
            ("as_json", AsJson, False),
        )
    ]

    @wraps(command)
    def run(
        *,
        state_dir: Path | None,
        sets: list[str] | None,
        config: Path | None,
        as_json: bool,
        **arguments: Any,
    ) -> None:
        if (context := arguments.get("ctx")) and context.invoked_subcommand:
            return  # a group: its command has options of its own
        invocation = Invocation(state_dir, tuple(sets or ()), config, as_json)
        with reported(invocation):
            _ = invocation.folder  # every command refuses wrong settings, before it does anything
            command(invocation, **arguments)

    # Typer reads the options from these two attributes.
    run.__signature__ = Signature([*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *common)}
    return run


@contextmanager
def reported(run: Invocation) -> Iterator[None]:
    """Turn errors into one sentence (or document) and exit code 1. The traceback of one that is
    not driftloop's is in the state directory then."""
    try:
        yield
    except DriftloopError as error:
        _show(error, run.as_json)
    except Exception as error:
        from driftloop_cli.unexpected import is_foreseen, recorded

        if is_foreseen(error):
            raise
        _show(recorded(error, run.known_state_dir), run.as_json)


def _show(error: DriftloopError, as_json: bool) -> NoReturn:
    if as_json:
        sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
    else:
        console.print(styled(("error:", "red"), f" {error}"))
    raise typer.Exit(1) from None
