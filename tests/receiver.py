"""A receiver of web hooks: a real HTTP server that does what a test asks of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import loads
from typing import Any


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return loads(self.content)


@dataclass
class Receiver:
    """answer: (status, headers, body) of a request; `gone` ends what hangs."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, dict[str, str], bytes]] = lambda _: (200, {}, b"ok")
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def authority(self) -> str:
        return self.url.removeprefix("http://")

    def hang(self, _: Request) -> tuple[int, dict[str, str], bytes]:
        self.gone.wait()
        return 500, {}, b""


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, self.rfile.read(length))
            receiver.requests.append(request)
            status, more, body = receiver.answer(request)
            try:
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
