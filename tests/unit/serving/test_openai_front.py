"""Which of several engines answers a call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from fastapi import FastAPI
from test_openai_upstream import read_call, served

from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_serving.batching.model_table import ModelTable, held_remotely
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.openai.openai_front import Front, add_openai
from driftloop_serving.openai.upstream_headers import NOT_BEGUN

DEPLOYMENT = Deployment(
    ModelSpec("tiny", "generation", "text", runtime="vllm"), (ServedVersion(1, "/w", SIGNATURE),),
    TrafficSplit(1), revision=1,
)  # fmt: skip
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"
REFUSED = (
    f"HTTP/1.1 503 Not now\r\n{NOT_BEGUN}: 1\r\nretry-after: 5\r\ncontent-length: 2\r\n\r\nno"
).encode()
FAILED = b"HTTP/1.1 503 Not now\r\nretry-after: 5\r\ncontent-length: 2\r\n\r\nno"


class Engines:
    """Return two engines that answer every call with `answers[i]`."""

    def __init__(self) -> None:
        self.answers = [GOOD, GOOD]
        self.asked = [0, 0]
        self.addresses: tuple[str, ...] = ()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        servers = []
        for number in range(2):

            async def handle(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int = number
            ) -> None:
                with suppress(asyncio.IncompleteReadError):
                    while self.answers[number]:
                        await read_call(reader)
                        self.asked[number] += 1
                        writer.write(self.answers[number])
                writer.close()

            server, address = await served(handle)
            servers.append(server)
            self.addresses += (address,)
        table = ModelTable({"tiny": held_remotely(DEPLOYMENT, [1], {1: self.addresses})})
        app = FastAPI()
        front = Front(lambda: table, ReplicaMeter(), body_limit_bytes=1 << 20, timeout_s=120.0)
        add_openai(app, front)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
            yield client
        for server in servers:
            server.close()


async def ask(client: httpx.AsyncClient, conversation: int) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": f"hi {conversation}"}]}
    return await client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("away", [0, 1])
async def test_a_call_that_an_engine_did_not_begin_is_another_ones(away: int) -> None:
    engines = Engines()
    async with engines.running() as client:
        engines.answers[away] = REFUSED
        for conversation in range(16):
            answer = await ask(client, conversation)
            assert (answer.status_code, answer.text) == (200, "good")
    assert engines.asked[away] > 0
    assert engines.asked[1 - away] == 16


async def test_where_no_engine_begins_it_the_last_refusal_is_said() -> None:
    engines = Engines()
    async with engines.running() as client:
        engines.answers = [REFUSED, REFUSED]
        answer = await ask(client, 1)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert NOT_BEGUN not in answer.headers
    assert engines.asked == [1, 1]


@pytest.mark.parametrize(("answer", "status"), [(FAILED, 503), (b"no HTTP\r\n\r\n", 503)])
async def test_a_call_that_was_begun_goes_to_no_other(answer: bytes, status: int) -> None:
    engines = Engines()
    async with engines.running() as client:
        engines.answers = [answer, answer]
        assert (await ask(client, 1)).status_code == status
    assert sum(engines.asked) == 1


async def test_conversations_are_shared_out_and_each_stays_where_it_is() -> None:
    engines = Engines()
    async with engines.running() as client:
        for _ in range(2):
            before = [*engines.asked]
            for conversation in range(24):
                await ask(client, conversation)
            shares = [now - then for now, then in zip(engines.asked, before, strict=True)]
            assert min(shares) > 0
    assert engines.asked == [2 * share for share in shares]
