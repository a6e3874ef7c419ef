"""The serving port with careless, slow and hostile clients: raw bytes on real sockets."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_port import BODY_LIMIT, ServingPort, body, serving_port

from driftloop_contracts.errors import Rejected
from driftloop_http.http_errors import error_bytes
from driftloop_serving.http.http_protocol import ConnectionLimits

GOOD = orjson.dumps(body([1.0]))


@pytest.fixture
async def port(tmp_path: Path, scaler: Path) -> AsyncIterator[ServingPort]:
    async with serving_port(tmp_path) as opened:
        opened.deploy(scaler)
        yield opened


def request(
    content: bytes = GOOD, path: str = "/v2/models/m/infer", extra: str = "", version: str = "1.1"
) -> bytes:
    head = f"POST {path} HTTP/{version}\r\nhost: x\r\ncontent-length: {len(content)}\r\n{extra}\r\n"
    return head.encode() + content


VALID = [
    request(),
    request(extra="expect: 100-continue\r\n"),
    request() * 3,
    b"POST /v2/models/m/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    b'5\r\n{"a":\r\n0\r\n\r\n',
    b"GET /v2/models/m HTTP/1.1\r\nhost: x\r\n\r\n" + request(),
]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            content = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, content

    async def end(self) -> bytes:
        """Return everything received until the server closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@contextlib.asynccontextmanager
async def connected(port: ServingPort) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_pipelined_requests_are_answered_in_order_whoever_answers_them(
    port: ServingPort,
) -> None:
    live = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    wanted: list[tuple[bytes, bytes]] = []
    for n in range(40):
        if n % 3 == 0:
            wanted.append((live, b'{"live":true}'))
        elif n % 7 == 0:
            wanted.append((request(b"{"), b"not valid JSON"))
        else:
            wanted.append((request(orjson.dumps(body([float(n)]))), b"[%d.0]" % (2 * n)))
    async with connected(port) as client:
        client.send(b"".join(sent for sent, _ in wanted))
        for _, found in wanted:
            assert found in (await client.answer())[2]


async def test_a_flood_of_pipelined_requests_is_answered_without_end_of_the_stack(
    port: ServingPort,
) -> None:
    async with connected(port) as client:
        client.send(request(extra="x-prediction-id: a b\r\n") * 3000)
        for _ in range(3000):
            assert (await client.answer())[0] == 400


@pytest.mark.parametrize(
    ("sent", "kept_open"),
    [
        (request(), True),
        (request(extra="connection: close\r\n"), False),
        (request(version="1.0"), False),
        (request(version="1.0", extra="connection: keep-alive\r\n"), True),
    ],
)
async def test_a_connection_lives_as_long_as_its_client_wants(
    port: ServingPort, sent: bytes, kept_open: bool
) -> None:
    async with connected(port) as client:
        client.send(sent)
        status, headers, _ = await client.answer()
        assert status == 200
        assert (headers.get("connection") != "close") is kept_open
        if kept_open:
            client.send(sent)
            assert (await client.answer())[0] == 200
        else:
            assert await client.end() == b""


async def test_a_client_that_asks_first_is_told_to_go_on(port: ServingPort) -> None:
    head, _, content = request(extra="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    async with connected(port) as client:
        client.send(head + b"\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(content)
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    ("sent", "status", "names"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, b"HTTP request"),
        (b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, b"HTTP request"),
        (b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: 1e3\r\n\r\n", 400, b"HTTP request"),
        (request(b"", extra="upgrade: h2c\r\nconnection: upgrade\r\n"), 400, b"upgrade"),
        (request(extra="x: y\r\n" * 10_000), 431, b"headers"),
        (b"POST /v2/models/m/infer HTTP/1.1\r\nx: " + b"y" * 300_000, 431, b"head is over"),
        (b"GET /" + b"y" * 300_000, 431, b"head is over"),
        (
            b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (BODY_LIMIT + 1),
            413, b"over 100000 bytes",
        ),
        (
            b"POST /v2/models/m/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1ffff\r\n"
            + b" " * 0x1FFFF,
            413, b"over 100000 bytes",
        ),
        (request(extra="inference-header-content-length: 99999\r\n"), 400, b"error"),
        (request(extra="inference-header-content-length: x\r\n"), 400, b"whole number"),
        (request(b""), 400, b"JSON"),
        (request(b"[" * 90_000), 400, b"JSON"),
    ],
)  # fmt: skip
async def test_what_is_wrong_gets_the_protocols_error(
    port: ServingPort, sent: bytes, status: int, names: bytes
) -> None:
    async with connected(port) as client:
        client.send(sent)
        found, _, content = await client.answer()
        assert (found, set(orjson.loads(content))) == (status, {"error"})
        assert names in content
    assert (await port.ask([1.0])).status_code == 200


async def test_a_refused_upload_gets_its_answer_though_the_client_is_still_sending(
    port: ServingPort,
) -> None:
    async with connected(port) as client:
        client.send(request(b" " * 5_000_000))
        assert (await client.answer())[0] == 413


async def test_a_body_that_is_cut_is_no_prediction_and_holds_nothing(port: ServingPort) -> None:
    async with connected(port) as client:
        client.send(request()[:-5])
        await until(lambda: port.ingress.connections)
    await until(lambda: not port.ingress.connections)
    assert port.batcher.in_flight == 0
    assert port.kept() == []


@pytest.mark.parametrize("sent", [b"", b"POST /v2/models/m/infer HTTP/1.1\r\nx: ", request()[:-5]])
async def test_a_client_that_is_too_slow_is_left(tmp_path: Path, scaler: Path, sent: bytes) -> None:
    async with serving_port(tmp_path, limits=ConnectionLimits(patience_s=0.2)) as port:
        port.deploy(scaler)
        async with connected(port) as client:
            client.send(sent)
            assert await client.end() == b""
        await until(lambda: not port.ingress.connections)


async def test_a_client_that_reads_nothing_is_left_and_costs_bounded_memory(
    tmp_path: Path, scaler: Path
) -> None:
    large = request(orjson.dumps(body([1.5] * 8_000)))
    async with serving_port(tmp_path, limits=ConnectionLimits(patience_s=0.5)) as port:
        port.deploy(scaler)
        async with connected(port) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(large * 400)
            await until(lambda: port.ingress.connections)
            (connection,) = port.ingress.connections
            most = 0
            while connection in port.ingress.connections:
                most = max(most, connection.transport.get_write_buffer_size())
                await asyncio.sleep(0.01)
            assert most < 4 * len(large)


async def test_an_idle_connection_is_closed_after_a_while(tmp_path: Path, scaler: Path) -> None:
    async with serving_port(tmp_path, limits=ConnectionLimits(keep_alive_s=0.0)) as port:
        port.deploy(scaler)
        async with connected(port) as client:
            client.send(request())
            assert (await client.answer())[0] == 200
            assert await client.end() == b""


async def test_over_the_limit_requests_are_told_to_try_again(tmp_path: Path, scaler: Path) -> None:
    async with serving_port(tmp_path, in_flight_limit=0) as port:
        port.deploy(scaler)
        answer = await port.ask([1.0])
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"


async def test_on_shut_down_busy_clients_lose_nothing(tmp_path: Path, scaler: Path) -> None:
    """Each connection first gets an answer with `connection: close`, and only then is closed."""

    async def ask_until_told(port: ServingPort) -> int:
        answered = 0
        async with connected(port) as client:
            while True:
                client.send(request())
                status, headers, _ = await client.answer()
                assert status == 200
                answered += 1
                if headers.get("connection") == "close":
                    return answered

    async with serving_port(tmp_path) as port:
        port.deploy(scaler)
        asking = [asyncio.create_task(ask_until_told(port)) for _ in range(20)]
        await until(lambda: len(port.ingress.connections) == 20)
        port.server.should_exit = True
        assert sum(await asyncio.gather(*asking)) == sum(
            counts.requests for counts in port.meter.counts.values()
        )


async def test_who_leaves_while_waiting_is_not_run(port: ServingPort, scaler: Path) -> None:
    port.deploy(scaler, name="slow", options={"onnx": {"max_queue_delay_ms": 500}})
    async with connected(port) as client:
        client.send(request(path="/v2/models/slow/infer"))
        await until(lambda: port.batcher.in_flight == 1)
    await until(lambda: port.batcher.in_flight == 0)
    assert port.kept() == []


@st.composite
def damaged(draw: Any) -> bytes:
    """Yield a few requests with some bytes changed."""
    sent = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(sent)))
        end = draw(st.integers(place, min(len(sent), place + 8)))
        sent[place:end] = draw(st.binary(max_size=8))
    return bytes(sent)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=st.lists(damaged(), min_size=20, max_size=40))
def test_whatever_bytes_arrive_the_port_answers_in_its_form_and_goes_on(
    messages: list[bytes], tmp_path_factory: pytest.TempPathFactory, scaler: Path
) -> None:
    async def send(port: ServingPort, message: bytes) -> None:
        async with connected(port) as client:
            client.send(message)
            client.writer.write_eof()
            found = await client.end()
        assert not found or found.startswith(b"HTTP/1.1 ")
        assert not re.search(rb"HTTP/1.1 5(?!01|03)", found)

    async def send_all() -> None:
        async with serving_port(tmp_path_factory.mktemp("port")) as port:
            port.deploy(scaler)
            await asyncio.gather(*(send(port, message) for message in messages))
            assert (await port.ask([1.0])).status_code == 200
            await until(lambda: port.batcher.in_flight == 0)

    asyncio.run(send_all())


def test_an_error_answer_is_json_with_its_length() -> None:
    answer = error_bytes(Rejected("no"), 400, b"\r\n\r\n")
    assert answer.endswith(b'content-length: 14\r\n\r\n{"error":"no"}')


@pytest.mark.parametrize("line", [b"POST /v2/models/m/infer", b"GET /v2/health/live", b"PUT /x"])
@pytest.mark.parametrize(
    "header", [b"host: evil.example", b"host: x\r\nhost: x", b"host: x\r\norigin: http://evil"]
)
async def test_pages_of_other_sites_are_refused(tmp_path: Path, line: bytes, header: bytes) -> None:
    async with serving_port(tmp_path) as port:
        head = line + b" HTTP/1.1\r\n" + header + b"\r\ncontent-length: 0\r\n\r\n"
        async with connected(port) as client:
            client.send(head)
            status, _, content = await client.answer()
        assert status == 403
        assert b"error" in content
