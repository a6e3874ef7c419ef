import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_cli.roles import ROLES, STOP_ORDER, roles_of
from driftloop_cli.supervisor import (
    Supervisor,
    kill_session,
    refuse_taken_ports,
    restart_delay_s,
)
from driftloop_contracts.errors import Conflict, NotFound, Rejected
from driftloop_serving.ports.port_owner import own_ports
from driftloop_settings import load_settings
from driftloop_settings.ports import free_port
from driftloop_settings.run_state import ProcessId, RoleState, RunState, write_run_state


def test_the_first_death_is_mended_at_once() -> None:
    assert restart_delay_s(1) == 0.0


@given(st.integers(1, 1000))
def test_the_delay_grows_to_half_a_minute_and_no_further(deaths: int) -> None:
    assert restart_delay_s(deaths) <= restart_delay_s(deaths + 1) <= 30.0


def test_every_role_has_its_place_in_the_stop_order() -> None:
    assert sorted(name for names in STOP_ORDER for name in names) == sorted(r.name for r in ROLES)


def test_what_is_answered_is_shipped_and_what_is_shipped_is_archived_before_the_end() -> None:
    turns = {name: turn for turn, names in enumerate(STOP_ORDER) for name in names}
    assert turns["serving"] < turns["shipper"] < turns["archiver"] < turns["kafka"]
    assert turns["gateway"] < turns["shipper"]


def test_with_other_clusters_named_no_broker_and_no_ray_of_our_own_run() -> None:
    settings = load_settings(
        ["kafka.bootstrap_servers=broker:9092", "serving.ray_address=head:6379"], environ={}
    )
    assert {role.name for role in roles_of(settings)}.isdisjoint({"kafka", "ray"})


def test_a_machine_that_only_serves_runs_the_roles_that_it_is_asked_to() -> None:
    settings = load_settings(["kafka.bootstrap_servers=broker:9092"], environ={})
    found = roles_of(settings, ["shipper", "ray", "serving"])
    assert [role.name for role in found] == ["ray", "serving", "shipper"]
    with pytest.raises(Rejected, match="--roles needs `serving`"):
        roles_of(settings, ["monitor"])
    with pytest.raises(NotFound, match="there is no role 'shiper'"):
        roles_of(settings, ["serving", "shiper"])


@pytest.fixture
def others(tmp_path: Path) -> Iterator[list[str]]:
    """The ports of another stack, as settings."""
    sets = [f"{key}={free_port()}" for key in ("serving.port", "serving.grpc_port", "control.port")]
    owner = own_ports(load_settings(sets, state_dir=tmp_path / "other", environ={}))
    assert owner is not None
    yield sets
    owner.close()


def test_a_second_stack_is_refused_within_three_seconds_before_anything_starts(
    others: list[str], tmp_path: Path
) -> None:
    settings = load_settings(others, state_dir=tmp_path / "own", environ={})
    settings.state_dir.mkdir()
    port, begun = settings.serving.port, time.monotonic()
    supervisor = Supervisor(settings, say=lambda _: None)
    with pytest.raises(Conflict, match=f"port {port} .* process {os.getpid()} .*serving.port"):
        supervisor.run(threading.Event())
    assert time.monotonic() - begun < 3
    assert not (settings.state_dir / "logs").exists()
    with pytest.raises(Conflict, match=f"port {port}"):
        refuse_taken_ports(settings)


def test_ports_that_a_killed_supervisor_may_have_left_taken_are_not_refused_at_once(
    others: list[str], tmp_path: Path
) -> None:
    settings = load_settings(others, state_dir=tmp_path / "own", environ={})
    left = RunState(ProcessId(1, 0.0), (RoleState("ray", "running"),))
    write_run_state(settings.state_dir, left)
    refuse_taken_ports(settings)


def test_a_killed_session_takes_its_children_along() -> None:
    parent = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, "
        "flush=True); input()'])"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert leader.stdout is not None
    leader.stdout.readline()
    children = psutil.Process(leader.pid).children()
    assert len(children) == 1
    kill_session(leader.pid)
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive
    assert leader.wait() == -9
    assert os.getsid(0) != leader.pid
