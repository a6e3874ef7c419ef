"""An engine's answer is streamed to the client, over real sockets."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from driftloop_serving.openai.openai_upstream import Connection, UpstreamLost, Upstreams

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


async def served(handler: Handler) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def read_call(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def whole(connection: Connection) -> bytes:
    chunks = []
    while (chunk := await connection.chunk()) is not None:
        chunks.append(chunk)
    return b"".join(chunks)


async def whole_answer(connection: Connection) -> bytes:
    await connection.head()
    return await whole(connection)


async def test_a_connection_is_used_again_for_the_next_call() -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            asked.append(await read_call(reader))
            writer.write(b"HTTP/1.1 201 OK\r\ncontent-length: 2\r\nX-A: b\r\n\r\nok")
        writer.close()

    server, address = await served(handle)
    async with server:
        upstreams = Upstreams()
        connections = []
        for body in (b"one", b"two"):
            connection = await upstreams.ask((address,), "/p", {"x-one": "1"}, body)
            assert await connection.head() == (201, [(b"content-length", b"2"), (b"x-a", b"b")])
            assert await whole(connection) == b"ok"
            connections.append(connection)
        assert connections[0] is connections[1]
        assert asked[1].startswith(b"POST /p HTTP/1.1\r\n")
        assert asked[1].endswith(b"x-one: 1\r\n\r\ntwo")
        connection.abort()


async def test_a_chunk_is_passed_on_before_the_next_one_is_there() -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(CHUNKED + b"5\r\nfirst\r\n")
        await go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        writer.close()

    server, address = await served(handle)
    async with server:
        connection = await Upstreams().ask((address,), "/", {}, b"")
        assert (await connection.head())[0] == 200
        assert await connection.chunk() == b"first"
        go_on.set()
        assert await whole(connection) == b"second"


@pytest.mark.parametrize("sent", [b"", CHUNKED + b"5\r\nfirst\r\n", b"no HTTP\r\n\r\n"])
async def test_an_engine_that_ends_within_an_answer_is_noticed(sent: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(sent)
        writer.close()

    server, address = await served(handle)
    async with server:
        connection = await Upstreams().ask((address,), "/", {}, b"")
        with pytest.raises(UpstreamLost):
            await whole_answer(connection)


async def test_giving_up_is_seen_by_the_engine() -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(CHUNKED)
        try:
            await reader.read()
        except ConnectionResetError:
            pass
        finally:
            gone.set()
            writer.close()

    server, address = await served(handle)
    async with server:
        connection = await Upstreams().ask((address,), "/", {}, b"")
        await connection.head()
        connection.abort()
        await asyncio.wait_for(gone.wait(), 120)
        with pytest.raises(UpstreamLost):
            await connection.chunk()


async def test_the_next_engine_is_asked_where_one_is_away() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    closed, away = await served(handle)
    closed.close()
    await closed.wait_closed()
    server, address = await served(handle)
    async with server:
        connection = await Upstreams().ask((away, address), "/", {}, b"")
        assert (await connection.head())[0] == 200
        assert await whole(connection) == b""
        connection.abort()
        with pytest.raises(OSError):  # noqa: PT011
            await Upstreams().ask((away,), "/", {}, b"")
