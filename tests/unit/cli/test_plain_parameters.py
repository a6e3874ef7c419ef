"""What is parsed without pydantic is what Typer parses with it, its sentences included."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer import core
from typer.testing import CliRunner

from driftloop_cli.plain_parameters import parse_plain_parameters

SEEN: list[str] = []
app = typer.Typer(rich_markup_mode=None)


@app.command()
def command(
    name: str,
    files: Annotated[list[Path] | None, typer.Argument()] = None,
    folder: Annotated[Path | None, typer.Option(envvar="A_FOLDER")] = None,
    at: Annotated[Path, typer.Option(exists=True)] = Path(),
    words: Annotated[list[str] | None, typer.Option("--word")] = None,
    flag: Annotated[bool, typer.Option("--flag", envvar="A_FLAG")] = False,
    choice: Annotated[bool, typer.Option("--yes/--no")] = True,
    count: Annotated[int | None, typer.Option(min=1)] = None,
    whole: int = 3,
    real: float = 1.5,
    pair: Annotated[tuple[str, int], typer.Option()] = ("a", 1),
) -> None:
    SEEN.append(repr((name, files, folder, at, words, flag, choice, count, whole, real, pair)))


PLAIN = [
    [], ["m"], ["m", "a", "b c"], ["m", "--folder", ""], ["m", "--folder", "~/x/../y"],
    ["m", "--at", "nowhere"], ["m", "--at", "/"], ["m", "--word", "a", "--word", ""],
    ["m", "--flag", "--no"], ["m", "--count", "0"], ["m", "--count", "2"], ["m", "--count", "x"],
    ["m", "--whole", "1_0"], ["m", "--whole", "1.5"], ["m", "--real", "nan"],
    ["m", "--real", "1,5"], ["m", "--pair", "b", "2"], ["m", "--pair", "b", "c"],
    ["[/a]", "\x1b"], ["m", "--folder"],
]  # fmt: skip


def run(words: list[str], **environ: str) -> tuple[int, str, list[str]]:
    SEEN.clear()
    result = CliRunner().invoke(app, words, env=environ)
    return result.exit_code, result.output, list(SEEN)


def check(words: list[str], **environ: str) -> None:
    typers_own = core.build_runtime_param
    wanted = run(words, **environ)
    parse_plain_parameters()
    try:
        assert core.build_runtime_param is not typers_own
        assert run(words, **environ) == wanted
    finally:
        core.build_runtime_param = typers_own


@pytest.mark.parametrize("words", PLAIN)
def test_each_form_is_parsed_alike(words: list[str]) -> None:
    check(words)


@pytest.mark.parametrize("value", ["1", "0", "", "yes", "maybe"])
def test_variables_are_parsed_alike(value: str) -> None:
    check(["m"], A_FLAG=value, A_FOLDER=value)


@settings(max_examples=50, deadline=None)
@given(words=st.lists(st.text(st.characters(exclude_characters="\0"), max_size=5), max_size=4))
def test_any_words_are_parsed_alike(words: list[str]) -> None:
    check(["m", *words])
