"""One process owns the ports; others answer on them, die, and are replaced."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import uvloop

from driftloop_contracts.errors import Conflict
from driftloop_serving.ports.acceptor import Acceptor
from driftloop_serving.ports.handover import take
from driftloop_serving.ports.open_port import OpenPort, open_port
from driftloop_serving.ports.port_owner import PortOwner, own_ports
from driftloop_settings import Settings, load_settings
from driftloop_settings.ports import free_port
from driftloop_settings.run_state import ports_socket

ANSWER = """
import os, sys
from pathlib import Path
from driftloop_serving.ports.handover import take
listener = take(Path(sys.argv[1]), "serving.port")
listener.setblocking(True)
print("takes", flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(10)
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""
JOIN = """
import sys
from driftloop_serving.ports.open_port import open_port
from driftloop_settings import load_settings
try:
    port = open_port(load_settings(sys.argv[1:], environ={}), "port")
    print("listens", flush=True)
    sys.stdin.read()
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    sets = [f"serving.{key}={free_port()}" for key in ("port", "grpc_port")]
    # Longer than a Unix socket's address may be.
    return load_settings(sets, state_dir=tmp_path / ("ü" * 60), environ={})


@pytest.fixture
def owner(settings: Settings) -> Iterator[PortOwner]:
    owner = own_ports(settings)
    assert owner is not None
    yield owner
    owner.close()


class Process:
    """Start a Python program. `first`: its first line."""

    def __init__(self, program: str, *arguments: object) -> None:
        words = [sys.executable, "-c", program, *map(str, arguments)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.first = self._process.stdout.readline().decode()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def asking(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=120)
    connection.sendall(b"who?")
    return connection


def test_a_connection_waits_while_the_only_replica_is_replaced(
    settings: Settings, owner: PortOwner
) -> None:
    port, place = settings.serving.port, ports_socket(settings.state_dir)
    first = Process(ANSWER, place)
    assert int(asking(port).recv(100)) == first.pid
    first.kill()
    waiting = [asking(port) for _ in range(16)]
    second = Process(ANSWER, place)
    assert {int(connection.recv(100)) for connection in waiting} == {second.pid}
    second.kill()


def test_only_the_same_user_is_given_sockets_which_children_do_not_inherit(
    settings: Settings, owner: PortOwner
) -> None:
    place = ports_socket(settings.state_dir)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    with take(place, "serving.grpc_port") as given:
        assert given.getsockname()[1] == settings.serving.grpc_port
        assert not given.get_inheritable()


def test_a_second_owner_is_refused_with_the_port_and_its_process(
    settings: Settings, owner: PortOwner, tmp_path: Path
) -> None:
    other = settings.model_copy(update={"state_dir": tmp_path / "other"})
    with pytest.raises(Conflict) as refused:
        own_ports(other)
    for part in (f"port {settings.serving.port}", f"process {os.getpid()}", "serving.port"):
        assert part in str(refused.value)


def test_of_two_ports_the_free_one_stays_free_if_the_other_is_taken(tmp_path: Path) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"serving.port": free, "serving.grpc_port": taken.getsockname()[1]}
        with pytest.raises(Conflict, match="grpc_port"):
            PortOwner(tmp_path / "ports.sock", "127.0.0.1", ports)
    socket.create_server(("127.0.0.1", free)).close()


def test_an_address_that_is_not_this_machine_s_is_named(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"serving\.port.*192\.0\.2\.1:8000"):
        PortOwner(tmp_path / "ports.sock", "192.0.2.1", {"serving.port": 8000})


def test_the_port_is_free_and_nobody_is_given_it_once_the_owner_has_closed(
    settings: Settings,
) -> None:
    owner = own_ports(settings)
    assert owner is not None
    owner.close()
    with pytest.raises(FileNotFoundError):
        take(ports_socket(settings.state_dir), "serving.port")
    socket.create_server(("127.0.0.1", settings.serving.port)).close()


def test_what_a_killed_owner_left_does_not_keep_the_next_one_from_answering(
    settings: Settings,
) -> None:
    place = ports_socket(settings.state_dir)
    place.parent.mkdir(parents=True)
    place.touch()
    owner = own_ports(settings)
    assert owner is not None
    take(place, "serving.port").close()
    owner.close()


def test_on_a_cluster_the_workers_of_one_node_share_the_port() -> None:
    sets = [f"serving.port={free_port()}", "serving.ray_address=head:6379"]
    siblings = [Process(JOIN, *sets) for _ in range(2)]
    assert [sibling.first for sibling in siblings] == ["listens\n"] * 2
    for sibling in siblings:
        sibling.kill()


def test_on_a_cluster_nobody_else_may_listen_there() -> None:
    port = free_port()
    settings = load_settings([f"serving.port={port}", "serving.ray_address=head:6379"], environ={})
    assert own_ports(settings) is None
    stranger = Process(JOIN, f"serving.port={port}", "serving.ray_address=head:6379")
    with pytest.raises(Conflict, match=f"port {port} .*process {stranger.pid}"):
        open_port(settings, "port")
    stranger.kill()


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The event loop that replicas use."""
    return uvloop.EventLoopPolicy()


class Greeting(asyncio.Protocol):
    def __init__(self, word: bytes) -> None:
        self._word = word

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = cast(asyncio.Transport, transport)
        opened.write(self._word)
        opened.close()


async def accepting(listener: socket.socket, word: bytes, *, shared: bool = True) -> Acceptor:
    acceptor = Acceptor(OpenPort(listener.dup(), shared), lambda: Greeting(word))
    await acceptor.open()
    return acceptor


async def words(connections: list[socket.socket]) -> list[bytes]:
    loop = asyncio.get_running_loop()
    return [await asyncio.wait_for(loop.sock_recv(c, 1), 120) for c in connections]


def burst(listener: socket.socket, count: int) -> list[socket.socket]:
    connections = [socket.create_connection(listener.getsockname()) for _ in range(count)]
    for connection in connections:
        connection.setblocking(False)
    return connections


async def test_idle_replicas_share_a_burst_of_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        both = [await accepting(listener, word) for word in (b"a", b"b")]
        for size in (2, 16, 64):
            # A busy machine may hold up one of the two for a whole burst, but not for three.
            found = [(await words(burst(listener, size))).count(b"a") for _ in range(3)]
            assert any(size / 4 <= a <= 3 * size / 4 for a in found), found
        for one in both:
            await one.close()


async def test_a_replica_takes_all_that_no_other_takes() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=300) as listener:
        for shared in (True, False):
            alone = await accepting(listener, b"a", shared=shared)
            assert await words(burst(listener, 200)) == [b"a"] * 200
            await alone.close()


async def test_who_leaves_answers_what_waits_and_the_next_one_the_rest() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first = await accepting(listener, b"a")
        waiting = burst(listener, 20)
        await first.close()
        later = burst(listener, 20)
        second = await accepting(listener, b"b")
        assert await words(waiting) == [b"a"] * 20
        assert await words(later) == [b"b"] * 20
        await second.close()
