"""The command `alerts`."""

import pytest
from typer.testing import CliRunner

from driftloop_cli.alert_commands import incident_rows
from driftloop_cli.main import app


@pytest.mark.parametrize("words", [["alerts"], ["alerts", "list"], ["alerts", "ack", "x"]])
def test_without_a_stack_each_command_says_how_to_start_one(
    words: list[str], tmp_path: object
) -> None:
    run = CliRunner().invoke(app, [*words, "--state-dir", str(tmp_path), "--json"])
    assert run.exit_code == 1
    assert run.output.count("no stack is running") == 1


def test_an_incident_is_a_row_with_both_sentences() -> None:
    record = {
        "id": "0123456789abcdef", "at": "2026-11-24T12:00:00+00:00", "model": "", "subject": "r0",
        "cause": "route", "urgency": "page", "state": "open", "hidden_by": None,
        "message": "It fails. It is tried again.",
    }  # fmt: skip
    (_, line) = incident_rows([record]).lines(None)
    assert "01234567" in str(line)
    assert "r0" in str(line)
    assert "It fails. It is tried again." in str(line)
