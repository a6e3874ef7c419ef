"""A small HTTP server that speaks OpenAI's form: a judge's model, played by a function of the
answer."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[str, dict[str, Any]], tuple[int, str]]
"""(the answer that is to be judged, the request's body) → a status, and what the model says."""


class JudgeEndpoint:
    """`keys`, `bodies`: what came; `raw`: bytes for every reply, in place of OpenAI's form."""

    def __init__(self, reply: Reply) -> None:
        self.keys: list[str | None] = []
        self.bodies: list[dict[str, Any]] = []
        self.raw: list[bytes] | None = None
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                endpoint.keys.append(self.headers.get("authorization"))
                endpoint.bodies.append(body)
                given = json.loads(body["messages"][-1]["content"])
                status, text = reply(given["answer"], body)
                if self.path != "/v1/chat/completions":
                    status = 404
                form = {"choices": [{"message": {"role": "assistant", "content": text}}]}
                self.send_response(status)
                self.end_headers()
                for part in endpoint.raw or [json.dumps(form).encode()]:
                    self.wfile.write(part)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
