"""The command `retrains`."""

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from driftloop_cli.main import app
from driftloop_cli.retrain_commands import retrain_rows
from driftloop_contracts.retrain import Retrain, RetrainState


@pytest.mark.parametrize("words", [["retrains", "list"], ["retrains", "show", "loans"]])
def test_without_a_stack_each_command_says_how_to_start_one(
    words: list[str], tmp_path: object
) -> None:
    run = CliRunner().invoke(app, [*words, "--state-dir", str(tmp_path), "--json"])
    assert run.exit_code == 1
    assert run.output.count("no stack is running") == 1


def test_an_attempt_is_a_row_with_its_number_and_why_it_failed() -> None:
    failed = Retrain(
        id="0123456789abcdef", model="loans", at=datetime(2026, 11, 30, tzinfo=UTC), attempt=2,
        state=RetrainState.FAILED, trigger="schedule", reasons=("data: too few rows",),
    )  # fmt: skip
    _, line = retrain_rows([failed]).lines(None)
    for part in ("01234567", "schedule", " 2 ", "failed", "data: too few rows"):
        assert part in str(line)
