from pathlib import Path

from driftloop_cli.settings_view import model_settings
from driftloop_contracts.model import ModelSpec
from driftloop_settings import read_settings


def test_a_models_settings_say_where_each_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[monitoring]\nwindow_rows = 700\nmin_rows = 70\n")
    environ = {"DRIFTLOOP_TRIGGER__COOLDOWN_S": "5"}
    loaded = read_settings(["rollout.error_margin=0.5"], file=file, environ=environ)
    policy = {"monitoring": {"window_rows": 300}, "rollout": {"steps": [0.2]}}
    rows = model_settings(loaded, ModelSpec("m", policy=policy))
    known = {row["setting"]: (row["value"], row["source"]) for row in rows}
    assert known["monitoring.window_rows"] == (300, "policy")
    assert known["rollout.steps"] == ([0.2], "policy")
    assert known["monitoring.min_rows"] == (70, str(file))
    assert known["trigger.cooldown_s"] == (
        5.0,
        "environment variable DRIFTLOOP_TRIGGER__COOLDOWN_S",
    )
    assert known["rollout.error_margin"] == (0.5, "--set rollout.error_margin")
    assert known["retrain.max_rows"] == (200_000, "default")


def test_what_is_global_is_not_listed_for_a_model() -> None:
    rows = model_settings(read_settings(environ={}), ModelSpec("m"))
    names = {row["setting"] for row in rows}
    assert names.isdisjoint({"monitoring.interval_s", "kafka.port", "state_dir"})
