"""The one place where HTTP clients are made, in an environment whose proxy answers nothing."""

import ast
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from driftloop_contracts.loopback import exempt_loopback, is_loopback
from driftloop_http.clients import client_for, own_async_client, own_client

ROOT = Path(__file__).parents[3]
DEAD_PROXY = "http://127.0.0.1:9"


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, DEAD_PROXY)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_a_stacks_own_addresses_are_asked_without_the_proxy(dead_proxy: None, server: str) -> None:
    with own_client(timeout=5.0) as http:
        assert http.get(server).status_code == 200


async def test_so_they_are_by_asyncio(dead_proxy: None, server: str) -> None:
    async with own_async_client(timeout=5.0) as http:
        assert (await http.get(server)).status_code == 200


def test_a_url_on_this_machine_is_asked_without_it_and_others_with_it(
    dead_proxy: None, server: str
) -> None:
    with client_for(server, timeout=5.0) as http:
        assert http.get(server).status_code == 200
    with client_for("http://judge.example/v1") as http, pytest.raises(httpx.ConnectError):
        http.get("http://judge.example/v1")  # the proxy's port refuses


def test_other_libraries_find_loopback_exempt(
    dead_proxy: None, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"http_proxy": DEAD_PROXY, "NO_PROXY": "intern.example, 10.0.0.1"}
    exempt_loopback(environ)
    exempt_loopback(environ)
    assert environ["no_proxy"] == environ["NO_PROXY"]
    assert environ["no_proxy"].split(",") == [
        "intern.example", "10.0.0.1", "localhost", "127.0.0.1", "::1", "127.0.0.0/8",
    ]  # fmt: skip
    monkeypatch.setenv("no_proxy", environ["no_proxy"])
    with httpx.Client(timeout=5.0) as http:
        assert http.get(server).status_code == 200


def test_a_no_proxy_for_everything_stays() -> None:
    environ = {"no_proxy": "*"}
    exempt_loopback(environ)
    assert environ == {"no_proxy": "*"}


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("LOCALHOST.", True),
        ("::1", True), ("[::1]", True), ("a.localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example", False),
        ("127.0.0.1.example", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine_alone(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_no_other_module_makes_a_client() -> None:
    """A client made elsewhere would follow `http_proxy` to this machine's own ports."""
    made = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for top in ("services", "serving", "monitoring", "retrain", "deploy")
        for path in (ROOT / top).rglob("*.py")
        if path.name != "clients.py"
        and "driftloop_client" not in path.parts  # a distribution of its own, which does the same
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "httpx"
        and call.func.attr in ("Client", "AsyncClient", "get", "post", "request", "stream")
        and not any(word.arg == "transport" for word in call.keywords)  # in this process
    ]
    assert made == []
