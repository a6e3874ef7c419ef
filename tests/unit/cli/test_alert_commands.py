"""The command `alerts`."""

import pytest
from typer.testing import CliRunner

from driftloop_cli.alert_commands import incident_rows
from driftloop_cli.durations import seconds_of
from driftloop_cli.main import app
from driftloop_contracts.errors import Rejected


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1_800), ("4h", 14_400), ("2d", 172_800)])
def test_a_silence_lasts_as_long_as_is_said(text: str, seconds: float) -> None:
    assert seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "4", "0h", "-1h", "1.5h", "h", "9999999d", "4 h x"])
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(Rejected, match="such as 30m, 4h or 2d"):
        seconds_of(text, "--for")


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
