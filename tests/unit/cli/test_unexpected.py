"""What a person sees of an error that nobody foresaw, and where its traceback is."""

import json
import os
import pickle
import re
import stat
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from driftloop_cli.options import Invocation, stack_command
from driftloop_contracts.errors import Rejected
from driftloop_contracts.internal_error import InternalError

SECRET = "of-the-inside"


def run(error: BaseException, folder: Path, *words: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @stack_command
    def fails(run: Invocation) -> None:
        raise error

    return CliRunner().invoke(app, ["--state-dir", str(folder), *words])


def entries(folder: Path) -> list[dict[str, str]]:
    log = folder / "logs" / "commands.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "error", [KeyError(SECRET), RuntimeError(SECRET + "\n\udc80 second line"), OSError(5, SECRET)]
)
def test_one_sentence_names_an_id_that_finds_the_traceback(
    error: Exception, as_json: bool, tmp_path: Path
) -> None:
    result = run(error, tmp_path, *(["--json"] if as_json else []))
    said = json.loads(result.stdout)["error"] if as_json else result.stderr
    assert result.exit_code == 1
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    assert said.strip().count("\n") == 0
    found = re.search(r"internal error ([0-9a-f]{12}): (\S+) has its cause under this id", said)
    assert found is not None
    log = Path(found[2])
    assert log.is_relative_to(tmp_path)
    (entry,) = [e for e in entries(tmp_path) if e["error_id"] == found[1]]
    assert SECRET in entry["exception"]
    assert "in fails" in entry["exception"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_errors_follow_one_another_in_the_log(tmp_path: Path) -> None:
    for _ in range(2):
        run(ValueError("x"), tmp_path)
    assert len({entry["error_id"] for entry in entries(tmp_path)}) == 2


def test_a_log_that_cannot_be_written_leaves_the_traceback_on_standard_error(
    tmp_path: Path,
) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    result = run(ValueError(SECRET), tmp_path, "--json")
    said = json.loads(result.stdout)["error"]
    entry = json.loads(result.stderr)
    assert entry["error_id"] in said
    assert "standard error has its cause" in said
    assert SECRET in entry["exception"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (typer.Exit(3), 3),
        (typer.Abort(), 1),
        (typer.BadParameter("wrong"), 2),
        (BrokenPipeError(32, "nobody reads"), 1),
        (Rejected("our own sentence"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_is_foreseen_is_not_an_internal_error(
    error: BaseException, code: int, tmp_path: Path
) -> None:
    result = run(error, tmp_path)
    assert result.exit_code == code
    assert "internal error" not in result.output
    assert entries(tmp_path) == []


def test_an_id_stays_on_the_way_between_processes() -> None:
    error = InternalError(os.devnull)
    again = pickle.loads(pickle.dumps(error))
    assert (again.error_id, str(again)) == (error.error_id, str(error))
