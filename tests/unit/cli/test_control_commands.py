"""What commands say about what a stack did, in words and in JSON."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from driftloop_cli.main import app
from driftloop_settings.run_state import ProcessId, RunState, write_run_state

WORDS = "process 7 ended with 1:\nTraceback (most recent call last):\nKeyError: 'taken [utc]'"
REQUESTED = {"id": "r1", "model": "m", "state": "requested"}
FAILED = {**REQUESTED, "state": "failed", "error": WORDS, "reasons": ["data: [/a] is missing"]}


class Stack:
    """A control API that answers what `answers` holds by method and path."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, Any] = {}
        answers, self._folder = self.answers, folder

        class Api(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                found = answers[f"{self.command} {self.path.partition('?')[0]}"]
                body = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = _answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        me = ProcessId.of(os.getpid())
        assert me is not None
        control = {"control": f"http://127.0.0.1:{self.server.server_port}"}
        write_run_state(folder, RunState(me, (), control))

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--state-dir", str(self._folder)])


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_retrain_that_fails_says_why_with_the_last_words_of_its_process(stack: Stack) -> None:
    stack.answers |= {"POST /api/retrains": REQUESTED, "GET /api/retrains": [FAILED]}
    said = stack.run("retrain", "m", "--wait")
    assert said.exit_code == 1
    assert WORDS in said.stderr
    assert "data: [/a] is missing" in said.stderr
    assert json.loads(stack.run("retrain", "m", "--wait", "--json").stdout)["error"] == WORDS


@pytest.mark.parametrize("unloaded", [True, False])
def test_a_removal_says_whether_replicas_still_answer(stack: Stack, unloaded: bool) -> None:
    answer = {"model": "m", "lake": "kept", "retrains": [], "unloaded": unloaded}
    stack.answers["DELETE /api/models/m"] = answer
    said = stack.run("remove", "m", "--yes")
    assert said.exit_code == 0
    assert "removed m; its data are kept" in said.stderr
    assert ("still answer" in said.stderr) is not unloaded
    assert json.loads(stack.run("remove", "m", "--yes", "--json").stdout) == answer
