"""`driftloop doctor --role` checks what a role needs on its machine, and names what it lacks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from driftloop_cli import role_checks
from driftloop_cli.main import app
from driftloop_contracts.errors import DriftloopError
from driftloop_settings import Settings
from driftloop_settings.ports import free_port

Doctor = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    def checks(role: str, **sets: str) -> dict[str, dict[str, Any]]:
        ports = {f"{key}": str(free_port()) for keys in role_checks.PORTS.values() for key in keys}
        words = [f"--set={key}={value}" for key, value in (ports | sets).items()]
        state = ["--state-dir", str(tmp_path / role), "--json"]
        result = CliRunner().invoke(app, ["doctor", "--role", role, *words, *state])
        return {check["name"]: check for check in json.loads(result.stdout)["checks"]}

    return checks


def test_a_role_is_checked_for_what_it_needs(doctor: Doctor) -> None:
    assert {*doctor("alerts")} == {"packages", "state directory", "store", "clock"}
    assert {"artifacts", "ports"} <= {*doctor("serving")}
    assert "broker" in doctor("shipper")


def test_one_that_writes_versions_proves_that_it_can(doctor: Doctor, tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    found = doctor("monitor", **{"registry.artifacts": shared})
    assert found["artifacts"]["detail"] == f"{shared} can be written and read"
    assert found["lake"]["ok"]


def test_a_place_that_cannot_be_written_is_named(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = doctor("monitor", **{"registry.artifacts": str(tmp_path / "file" / "shared")})
    assert not found["artifacts"]["ok"]
    assert "cannot be used: " in found["artifacts"]["detail"]


def test_a_store_that_is_away_is_named(doctor: Doctor) -> None:
    away = f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/db"
    found = doctor("alerts", **{"store.url": away})
    assert not found["store"]["ok"]
    assert not found["clock"]["ok"]
    assert "secret" not in json.dumps(found)


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    words = ["doctor", "--role", "x", "--state-dir", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "the roles are kafka, ray, serving" in json.loads(result.stdout)["error"]


def test_a_registry_that_cannot_be_opened_hides_its_password(tmp_path: Path) -> None:
    uri = f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/db"
    settings = Settings(state_dir=tmp_path, registry={"uri": uri})
    with pytest.raises(DriftloopError, match=r"postgresql\+psycopg://127") as raised:
        role_checks.registry(settings)
    assert "secret" not in str(raised.value)
