import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from driftloop_cli.main import app
from driftloop_store import open_store

COMMANDS = (
    "up", "down", "status", "deploy", "retrain", "rollout", "kafka", "doctor", "demo", "train",
    "role", "settings", "query", "labels", "tail", "export", "lineage", "reproduce",
    "report", "check-recipe", "migrate",
)  # fmt: skip
runner = CliRunner()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    "words", [["status"], ["retrain", "m"], ["rollout", "pause", "m"], ["rollout", "status"]]
)
def test_without_a_stack_a_command_says_how_to_start_one(words: list[str], tmp_path: Path) -> None:
    result = runner.invoke(app, [*words, "--state-dir", str(tmp_path), "--json"])
    assert result.exit_code == 1
    assert "driftloop up" in json.loads(result.stdout)["error"]


def test_down_without_a_stack_is_fine(tmp_path: Path) -> None:
    result = runner.invoke(app, ["down", "--state-dir", str(tmp_path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["stopped"] is False


def test_settings_in_force_are_one_json_document(tmp_path: Path) -> None:
    words = ["settings", "--state-dir", str(tmp_path), "--set", "serving.port=0", "--json"]
    document = json.loads(runner.invoke(app, words).stdout)
    assert document["serving"]["port"] == 0
    assert document["state_dir"] == str(tmp_path)


def test_a_wrong_setting_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    result = runner.invoke(app, ["settings", "--set", "lake.flush=1", "--json"])
    assert result.exit_code == 1
    assert "lake.flush_rows" in json.loads(result.stdout)["error"]


def test_a_demo_never_removes_what_is_not_a_demos(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.tex"
    precious.write_text("x")
    result = runner.invoke(app, ["demo", "--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert precious.read_text() == "x"


def test_a_migration_refuses_a_store_of_a_newer_release_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    """As an image of an older version does, before any of its roles starts."""
    open_store(f"sqlite:///{tmp_path / 'store.db'}").close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999_from_tomorrow'")
    result = runner.invoke(app, ["migrate", "--state-dir", str(tmp_path), "--json"])
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert "was written by a newer release" in error
    assert "Install that release or a newer one, or restore a backup" in error
