"""The control API as the command line asks it, over a real socket."""

import io
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from driftloop_cli.control_client import PIECE_BYTES, ControlClient
from driftloop_contracts.errors import NotFound, Rejected, RetryLater, Unavailable
from driftloop_settings.run_state import ProcessId, RunState, write_run_state


class Api(BaseHTTPRequestHandler):
    """Answers what it was asked; a path of `/N` with the status N, before it reads the body."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._answer(b"")

    do_DELETE = do_GET

    def do_POST(self) -> None:
        if self.path.strip("/").isdigit():
            self.close_connection = True
            return self._answer(b"")
        content = b""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers["content-length"]))
        self._answer(content)

    def _answer(self, content: bytes) -> None:
        name = self.path.strip("/")
        status = int(name) if name.isdigit() else 200
        document: dict[str, Any] = {"error": f"sentence {name}"}
        if status == 200:
            kind = self.headers["content-type"]
            document = {
                "method": self.command, "path": self.path, "type": kind, "bytes": len(content),
                "json": json.loads(content) if content and kind == "application/json" else None,
            }  # fmt: skip
        body = b"<html>" if status == 502 else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def client_of(folder: Path, port: int) -> ControlClient:
    me = ProcessId.of(os.getpid())
    assert me is not None
    write_run_state(folder, RunState(me, (), {"control": f"http://127.0.0.1:{port}"}))
    return ControlClient(folder, patience_s=0.0)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ControlClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield client_of(tmp_path, server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


def test_calls_carry_parameters_and_bodies(client: ControlClient) -> None:
    found = client.get("/api/x", model="größe & co", limit=1)
    assert found["path"] == "/api/x?model=gr%C3%B6%C3%9Fe+%26+co&limit=1"
    assert client.delete("/api/x")["method"] == "DELETE"
    # A call that changes something needs a content type, without a body too.
    assert client.post("/api/x") | {"path": ""} == {
        "method": "POST", "path": "", "type": "application/json", "bytes": 0, "json": None,
    }  # fmt: skip
    assert client.post("/api/x", {"reason": "größe"})["json"] == {"reason": "größe"}


def test_an_archive_of_any_size_is_sent_from_its_start(client: ControlClient) -> None:
    archive = io.BytesIO(bytes(3 * PIECE_BYTES + 7))
    archive.seek(5)
    found = client.put_archive("/api/models", archive, at_once="false")
    assert (found["bytes"], found["type"]) == (3 * PIECE_BYTES + 7, "application/x-tar")


@pytest.mark.parametrize(
    ("status", "error"), [(400, Rejected), (404, NotFound), (409, Rejected), (503, RetryLater)]
)
def test_errors_are_driftloops_with_the_servers_sentence(
    client: ControlClient, status: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"sentence {status}"):
        client.get(f"/{status}")


def test_an_answer_without_a_sentence_names_its_status(client: ControlClient) -> None:
    with pytest.raises(Rejected, match="the control API answered 502"):
        client.get("/502")


def test_a_server_that_answers_before_it_has_read_all_is_heard(client: ControlClient) -> None:
    with pytest.raises((Rejected, Unavailable), match=r"sentence 413|did not answer"):
        client.put_archive("/413", io.BytesIO(bytes(64 * PIECE_BYTES)))


def test_a_variable_names_the_stack_of_other_machines(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="DRIFTLOOP_CONTROL_URL"):
        ControlClient(tmp_path, environ={})
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever).start()
        named = {"DRIFTLOOP_CONTROL_URL": f"http://127.0.0.1:{server.server_port}/"}
        assert ControlClient(tmp_path, environ=named).get("/api/status")["path"] == "/api/status"
        server.shutdown()


@pytest.mark.parametrize(
    "url", ["gateway:8001", "ftp://g:1", "http://", "http://g/api", "http://u:p@g", "http://g:x"]
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Rejected, match="such as http://gateway"):
        ControlClient(tmp_path, environ={"DRIFTLOOP_CONTROL_URL": url})


def test_one_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        port = server.server_port
    with pytest.raises(Unavailable, match="control API does not answer"):
        client_of(tmp_path, port).get("/api/status")
