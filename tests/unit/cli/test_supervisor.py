import os
import subprocess
import sys

import psutil
from hypothesis import given
from hypothesis import strategies as st

from driftloop_cli.roles import ROLES, STOP_ORDER, roles_of
from driftloop_cli.supervisor import kill_session, restart_delay_s
from driftloop_settings import load_settings


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
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert leader.wait() == -9
    assert os.getsid(0) != leader.pid
