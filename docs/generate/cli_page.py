"""docs/reference/cli.md, from the Typer application."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from layout import page, table

from driftloop_cli.main import app

COMMON = ("state_dir", "sets", "config", "as_json")
INTRODUCTION = """\
Results go to standard output, messages to standard error. The exit code is 0 on success, 1 for an
error that the message explains, and 2 for wrong usage."""


def render() -> str:
    commands = list(leaves(typer.main.get_command(app), "driftloop"))
    shared = {p.name: p for _, command in reversed(commands) for p in command.params}
    common = table(("option", "meaning"), [described(shared[name]) for name in COMMON])
    parts = ["## Options of all commands", common]
    for name, command in commands:
        own = [p for p in command.params if p.name not in COMMON]
        arguments = [value(p) for p in own if is_argument(p)]
        parts += [
            f"## {name}",
            f"`{' '.join([name, *arguments, '[OPTIONS]'])}`",
            inspect.cleandoc(command.help or ""),
        ]
        if own:
            parts.append(table(("argument or option", "meaning"), map(described, own)))
    return page("Commands", INTRODUCTION, *parts)


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that can be run, in the order of `--help`."""
    for child, found in sorted(command.commands.items()):
        if hasattr(found, "commands"):
            yield from leaves(found, f"{name} {child}")
        else:
            yield f"{name} {child}", found


def is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def value(parameter: Any) -> str:
    """As the usage line names it: `NAME`, `PATH`."""
    return str(parameter.metavar or parameter.name.removesuffix("_").upper())


def described(parameter: Any) -> tuple[str, str]:
    text = (getattr(parameter, "help", None) or "").replace("  [default:", " [default:")
    if is_argument(parameter):
        return f"`{value(parameter)}`", text
    flag = parameter.is_flag
    if not flag and parameter.default is not None and "[default:" not in text:
        text += f" [default: {parameter.default}]"
    if parameter.required:
        text += " [required]"
    return f"`{parameter.opts[0]}{'' if flag else ' ' + value(parameter)}`", text
