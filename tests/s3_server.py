"""An object store with a real S3 API (moto's server), reached as Amazon's would be."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

from pyarrow import fs

from driftloop_settings.ports import free_port


def environment(endpoint: str) -> dict[str, str]:
    """What reaches it."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    pid: int


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Its endpoint."""
    with s3_process(host) as server:
        yield server.endpoint


@contextmanager
def s3_process(host: str) -> Iterator[S3Server]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                socket.create_connection((host, port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield S3Server(f"http://{host}:{port}", process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def without_conditional_writes(endpoint: str) -> Iterator[str]:
    """The endpoint of the same store, which ignores `If-None-Match` there, as old ones do."""

    class Forward(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            kept = {k: v for k, v in self.headers.items() if k.lower() != "if-none-match"}
            with urlopen(Request(f"{endpoint}{self.path}", body, kept, method="PUT")) as answer:
                self.send_response(answer.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def store(endpoint: str) -> fs.S3FileSystem:
    scheme, _, host = endpoint.partition("://")
    return fs.S3FileSystem(
        endpoint_override=host,
        scheme=scheme,
        region="us-east-1",
        access_key="key",
        secret_key="secret",
        allow_bucket_creation=True,
        request_timeout=30.0,
    )


def put(endpoint: str, key: str, content: bytes) -> None:
    """An object at `bucket/key`."""
    with store(endpoint).open_output_stream(key) as stream:
        stream.write(content)
