import os
import socket
import subprocess
import sys
from pathlib import Path

from driftloop_settings import load_settings
from driftloop_settings.run_state import (
    ProcessId,
    RoleState,
    RunState,
    read_json,
    read_run_state,
    resolve_ports,
    write_json,
    write_run_state,
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    state = RunState(
        ProcessId(1, 2.0), (RoleState("kafka", "running", 3, 4.0, 1),), {"inference": "http://x"}
    )
    write_run_state(tmp_path, state)
    assert read_run_state(tmp_path) == state


def test_where_nothing_ran_there_is_no_state(tmp_path: Path) -> None:
    assert read_run_state(tmp_path) is None


def test_half_a_file_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": ')
    assert read_json(path) is None
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_is_known_by_its_start_not_by_its_pid_alone() -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    assert me.alive()
    assert not ProcessId(me.pid, me.created_s - 100).alive()


def test_a_process_that_ended_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessId.of(process.pid)
    assert identity is not None
    assert identity.alive()
    process.communicate(b"\n")
    assert not identity.alive()


def test_free_ports_are_kept_from_one_start_to_the_next(tmp_path: Path) -> None:
    wanted = [
        "serving.port=0",
        "serving.grpc_port=0",
        "control.port=0",
        "kafka.port=0",
        "serving.ray_port=0",
    ]
    settings = load_settings(wanted, state_dir=tmp_path, environ={})
    (first, said), (second, _) = resolve_ports(settings), resolve_ports(settings)
    ports = {
        first.serving.port,
        first.serving.grpc_port,
        first.control.port,
        first.kafka.port,
        first.serving.ray_port,
    }
    assert len(ports) == 5
    assert 0 not in ports
    assert first == second
    assert load_settings(said, state_dir=tmp_path, environ={}) == first


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    settings = load_settings(["serving.port=0"], state_dir=tmp_path, environ={})
    first, _ = resolve_ports(settings)
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.serving.port))
        assert resolve_ports(settings)[0].serving.port != first.serving.port


def test_a_port_of_the_settings_stays(tmp_path: Path) -> None:
    settings = load_settings(["serving.port=8123"], state_dir=tmp_path, environ={})
    assert resolve_ports(settings)[0].serving.port == 8123
