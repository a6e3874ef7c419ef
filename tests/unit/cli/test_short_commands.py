"""Short commands import no more than they need, and yet refuse what is wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from driftloop_cli.main import app
from driftloop_settings.state_path import is_all_that_is_set

HEAVY = {
    "pandas", "numpy", "pyarrow", "duckdb", "deltalake", "sqlalchemy", "structlog",
    "fastapi", "pydantic", "httpx", "onnx", "mlflow", "ray", "driftloop_settings.settings",
}  # fmt: skip
SHORT = ("status", "labels loan", "deploy model.yaml", "rollout status", "alerts list", "retrain m")
IMPORTED = """
import json, sys
from driftloop_cli.main import app
from driftloop_cli.plain_parameters import parse_plain_parameters
parse_plain_parameters()
for words in {commands!r}:
    app([*words.split(), "--state-dir", {folder!r}], standalone_mode=False)
sys.stdout.write(json.dumps(list(sys.modules)))
"""


def test_short_commands_import_no_library_of_data(tmp_path: Path) -> None:
    """`labels` reads the lake itself without a stack, so its turn is in `test_label_api`."""
    commands = [words for words in SHORT if not words.startswith("labels")]
    source = IMPORTED.format(commands=commands, folder=str(tmp_path))
    found = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, check=True, text=True
    )
    assert found.stderr.count("no stack is running") == len(commands)
    assert HEAVY & set(json.loads(found.stdout)) == set()


@pytest.mark.parametrize("words", SHORT)
def test_short_commands_refuse_wrong_settings(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = "trigger.schedule=0 3 * *"
    for more in ([], ["--set", wrong], ["--config", "other.toml"], ["--state-dir", " "]):
        Path("driftloop.toml").write_text("[trigger]\nschedule = '0 3 * *'\n" if not more else "")
        Path("other.toml").write_text("[trigger]\nschedul = 'x'\n")
        result = CliRunner().invoke(app, [*words.split(), *more, "--json"])
        assert result.exit_code == 1
        said = json.loads(result.stdout)["error"]
        assert any(part in said for part in ("trigger.schedul", "state_dir")), said


def test_a_setting_anywhere_has_all_of_them_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, here = Path("x"), {"PATH": "/bin", "DRIFTLOOP_STATE_DIR": "x"}
    assert is_all_that_is_set(folder, (), None, here)
    assert is_all_that_is_set(None, (), None, {})
    assert not is_all_that_is_set(None, (), None, here)  # a library's caller gave no folder
    assert not is_all_that_is_set(folder, ("serving.port=0",), None, {})
    assert not is_all_that_is_set(folder, (), Path("a.toml"), {})
    assert not is_all_that_is_set(folder, (), None, {"DRIFTLOOP_SERVING__PORT": "0"})
    Path("driftloop.toml").touch()
    assert not is_all_that_is_set(folder, (), None, {})


def commands(group: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below a group, with the words that call them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)
        else:
            yield (*words, name), command


def test_every_command_refuses_a_setting_that_no_role_could_work_with(tmp_path: Path) -> None:
    refused = set()
    for words, command in commands(get_command(app)):
        needed = [p for p in command.params if p.required]
        given = [
            word
            for p in needed
            for word in (["1"] if p.param_type_name == "argument" else [p.opts[0], "1"])
        ]
        wrong = ["--set", "trigger.schedule=0 3 * *", "--state-dir", str(tmp_path)]
        said = CliRunner().invoke(app, [*words, *given, *wrong])
        if said.exit_code == 1 and "trigger.schedule" in said.output:
            refused.add(words)
    assert {words for words, _ in commands(get_command(app))} - refused == set()
    assert list(tmp_path.iterdir()) == []
