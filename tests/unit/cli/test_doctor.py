"""`doctor` looks, and leaves everything as it was."""

from contextlib import closing
from pathlib import Path

from driftloop_cli.doctor import examine
from driftloop_settings import Settings
from driftloop_store import Schema, look_at_store, open_store
from driftloop_store.engine import make_engine
from driftloop_store.schema import migrate


def store_check(settings: Settings) -> tuple[bool, str]:
    (check,) = [check for check in examine(settings) if check["name"] == "store"]
    return check["ok"], check["detail"]


def test_a_missing_state_directory_and_store_are_not_made(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    checks = {check["name"]: check for check in examine(settings)}
    for name in ("state directory", "store"):
        assert checks[name]["ok"]
        assert "made by the first start" in checks[name]["detail"]
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checks = {c["name"]: c for c in examine(Settings(state_dir=tmp_path / "file" / "state"))}
    assert not checks["state directory"]["ok"]
    assert "file cannot be written" in checks["state directory"]["detail"]


def test_an_older_store_is_not_upgraded(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    engine = make_engine(settings.store_url)
    migrate(engine, "0004")
    engine.dispose()
    assert store_check(settings) == (True, f"{settings.store_url}, upgraded by a start")
    with closing(look_at_store(settings.store_url)) as store:
        assert store.schema() is Schema.OLDER
    open_store(settings.store_url).close()
    assert store_check(settings) == (True, settings.store_url)
