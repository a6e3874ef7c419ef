import socket
import subprocess
import sys
from pathlib import Path

from driftloop_settings.ports import free_port, is_free, taken


def test_a_free_port_is_none_that_outgoing_connections_are_given() -> None:
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    first, last = (int(limit) for limit in limits)
    for _ in range(20):
        assert not first <= free_port() <= last


def test_a_port_that_is_taken_is_not_free() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)


def test_a_port_that_is_promised_to_another_is_not_given_again() -> None:
    for _ in range(20):
        assert free_port(taken=range(15_000, 24_000)) >= 24_000


LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("listening", flush=True)
    sys.stdin.read()
"""


def test_the_process_that_has_a_port_is_named_in_few_words() -> None:
    port = free_port()
    argv = [sys.executable, "-c", LISTEN, str(port), f"a{' ' * 500}"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        said = taken("serving.port", port)
        child.communicate()
    assert said.startswith(f"port {port} is taken by process {child.pid} ({sys.executable} -c ")
    assert "  " not in said
    assert said.endswith("set serving.port to another, or to 0 for a free one")
