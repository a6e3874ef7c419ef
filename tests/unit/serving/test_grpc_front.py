"""Closing the gRPC port without losing calls."""

import asyncio
import socket
import struct

import grpc
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from driftloop_serving.grpc.grpc_front import GOAWAY, Frames, GrpcFront
from driftloop_serving.ports.open_port import OpenPort

ECHO = "/test.Echo/Echo"


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The event loop that replicas use."""
    return uvloop.EventLoopPolicy()


@given(
    payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_a_frame_s_end_is_seen_however_the_bytes_arrive(
    payloads: list[bytes], cuts: list[int]
) -> None:
    ends, stream = set(), b""
    for payload in payloads:
        stream += struct.pack(">I", len(payload))[1:] + bytes(6) + payload
        ends.add(len(stream))
    places = sorted({*(cut for cut in cuts if 0 < cut < len(stream)), len(stream)})
    frames, before = Frames(), 0
    assert not frames.between
    for place in places:
        frames.feed(stream[before:place])
        assert frames.between == (place in ends)
        before = place


def test_the_farewell_is_a_whole_frame() -> None:
    frames = Frames()
    frames.feed(GOAWAY)
    assert frames.between


class Replica:
    """A gRPC server that echoes, behind its front."""

    def __init__(self, listener: socket.socket) -> None:
        async def echo(request: bytes, context: object) -> bytes:
            return request

        handler = grpc.unary_unary_rpc_method_handler(echo)
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Echo", {"Echo": handler}),)
        )
        upstream = f"test-{id(self)}"
        self.server.add_insecure_port(f"unix-abstract:{upstream}")
        self.front = GrpcFront(OpenPort(listener), upstream)
        self.port = listener.getsockname()[1]

    async def start(self) -> None:
        await self.server.start()
        await self.front.open()

    async def stop(self) -> None:
        await self.front.leave(10.0)
        await self.server.stop(0)


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def test_no_call_is_lost_when_a_replica_leaves_and_another_stays() -> None:
    shared = listener()
    first = Replica(shared.dup())
    await first.start()
    answered, ended = 0, asyncio.Event()

    async def client() -> None:
        nonlocal answered
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{first.port}", options) as channel:
            ask = channel.unary_unary(ECHO)
            while not ended.is_set():
                assert await ask(b"x" * 40_000, timeout=120) == b"x" * 40_000
                answered += 1

    async def answers(wanted: int) -> None:
        while answered < wanted:
            assert not any(task.done() for task in clients), [t.exception() for t in clients]
            await asyncio.sleep(0.01)

    clients = [asyncio.create_task(client()) for _ in range(8)]
    await answers(50)
    second = Replica(shared)
    await second.start()
    await answers(answered + 50)
    assert first.front.clients
    await first.stop()
    assert not first.front.clients
    await answers(answered + 50)
    ended.set()
    await asyncio.gather(*clients)
    assert len(second.front.clients) <= 8
    await second.stop()


async def test_a_client_that_stays_silent_is_left_after_the_grace() -> None:
    replica = Replica(listener())
    await replica.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    received = await reader.readuntil(bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]))
    await replica.front.leave(0.05)
    while GOAWAY not in received:
        received += await reader.read(100)
    assert len(replica.front.clients) == 1
    await replica.server.stop(0)
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(100_000)])
async def test_who_speaks_something_else_is_let_go(sent: bytes) -> None:
    replica = Replica(listener())
    await replica.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(sent)
    if sent:
        try:
            while await asyncio.wait_for(reader.read(1000), 120):
                pass
        except ConnectionError:
            pass
    writer.close()
    while replica.front.clients:
        await asyncio.sleep(0.01)
    await replica.stop()
