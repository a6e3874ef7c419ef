"""The Compose files: valid, complete, and named as the code names things. What `docker compose
config` checks, without Docker."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from prometheus_server import program

from driftloop_cli.roles import ROLES
from driftloop_http.callers import Callers
from driftloop_settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "deploy" / "compose"
SCHEMA = json.loads((ROOT / "tests" / "fixtures" / "compose-spec.json").read_text())
VARIABLE = re.compile(r"\$(\$|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<rest>[^}]*))?\})")
ONCE = {"bucket", "migrate"}


def example() -> dict[str, str]:
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Raises KeyError for a variable that is not given and has no default."""
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def given(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "$"
        if found["how"] == "-" and not variables.get(found["name"]):
            return str(found["rest"])
        return variables[found["name"]]

    return VARIABLE.sub(given, value)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return dict(interpolated(found, example()))


@pytest.fixture(scope="module")
def services(document: dict[str, Any]) -> dict[str, Any]:
    return dict(document["services"])


def is_ours(service: dict[str, Any]) -> bool:
    return bool(service["image"] == example()["IMAGE"])


def settings_of(service: dict[str, Any]) -> Settings:
    return load_settings(environ=service["environment"])


@pytest.mark.parametrize("name", ["compose.yaml", "three-brokers.yaml"])
def test_the_file_follows_the_specification(name: str) -> None:
    found = interpolated(yaml.safe_load((COMPOSE / name).read_text()), example())
    validator = Draft7Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(found)] == []
    (first, *_) = found["services"].values()
    first["heathcheck"] = {}
    assert list(validator.iter_errors(found)), "the check can fail"


def test_every_variable_is_in_the_example_or_has_a_default(document: dict[str, Any]) -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    used = {m["name"] for m in VARIABLE.finditer(text) if m["name"]}
    assert used >= set(example()), "each value of the example is used"
    needed = {m["name"] for m in VARIABLE.finditer(text) if m["name"] and m["how"] != "-"}
    assert needed <= set(example())


def test_every_setting_is_one_and_every_role_runs(services: dict[str, Any]) -> None:
    started = set()
    for service in filter(is_ours, services.values()):
        settings = settings_of(service)
        assert settings.lake_uri == "s3://driftloop/lake"
        assert settings.registry.artifacts == "s3://driftloop/artifacts"
        command = service["command"]
        if command[0] == "role":
            started.add(command[1])
        elif command[0] == "up":
            started |= {*command[2].split(",")}
    assert started == {role.name for role in ROLES} - {"kafka"}


def test_containers_of_ours_may_do_nothing_that_they_need_not(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if is_ours(service):
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            paths = {mount.split(":")[-1] for mount in service.get("volumes", [])}
            paths |= {mount.split(":")[0] for mount in service["tmpfs"]}
            assert {"/tmp", "/var/lib/driftloop"} <= paths, name


def test_each_server_has_a_health_check_and_starts_after_what_it_needs(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        assert name in ONCE or "healthcheck" in service, name
        needed = service.get("depends_on", {})
        assert set(needed) <= set(services), name
        for other, how in needed.items() if isinstance(needed, dict) else ():
            once = how["condition"] == "service_completed_successfully"
            assert once == (other in ONCE), name


def test_a_role_is_asked_for_the_file_that_it_touches(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if is_ours(service) and "run/alive" in str(service.get("healthcheck")):
            assert service["command"] == ["role", name]
            assert service["hostname"] == name, "the check asks for the file of the host's name"


def test_only_this_machine_reaches_the_ports_unless_it_is_said(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    settings = settings_of(services["serving"])
    ports = {int(port.rpartition(":")[2]) for port in published}
    assert {settings.serving.port, settings.serving.grpc_port, settings.control.port} <= ports


def test_prometheus_is_let_in_and_reads_the_rules(services: dict[str, Any]) -> None:
    config = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "driftloop", "as the rules name it"
    settings = settings_of(services["gateway"])
    callers = Callers.of(settings)
    for target in job["static_configs"][0]["targets"]:
        host, _, port = target.partition(":")
        assert host in services
        assert callers.refusal(target.encode(), None) is None
        assert int(port) in (settings.serving.port, settings.control.port)


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    for file in (COMPOSE / "prometheus.yml", ROOT / "deploy" / "prometheus" / "alerts.yml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    command = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_volumes_and_files_that_are_mounted_exist(document: dict[str, Any]) -> None:
    mounted = {
        mount.partition(":")[0]
        for service in document["services"].values()
        for mount in service.get("volumes", [])
    }
    assert mounted == set(document["volumes"])
    used = {
        config["source"]
        for service in document["services"].values()
        for config in service.get("configs", [])
    }
    assert used == set(document["configs"])
    for config in document["configs"].values():
        assert "content" in config or (COMPOSE / config["file"]).is_file()
