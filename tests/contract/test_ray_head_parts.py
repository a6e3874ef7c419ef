"""What `ray_start` replaces in Ray, and the program that waits in its place."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import ray._private.utils as utils
from ray._private import ray_constants
from ray._private.node import Node
from ray.scripts import scripts

from driftloop_serving.cluster import ray_wait
from driftloop_serving.cluster.ray_head import RAY


@pytest.mark.parametrize(
    "name", ["start_api_server", "start_ray_client_server", "dead_processes", "all_processes"]
)
def test_ray_still_has_what_is_replaced(name: str) -> None:
    assert hasattr(Node, name) or name in inspect.getsource(Node.__init__)


def test_ray_still_asks_for_them_when_a_head_starts() -> None:
    assert "self.start_api_server(" in inspect.getsource(Node.start_head_processes)
    assert "self.start_ray_client_server(" in inspect.getsource(Node.start_head_processes)
    assert "node.dead_processes()" in inspect.getsource(scripts.start.callback)
    assert "services.get_node(" in inspect.getsource(Node.__init__)
    assert callable(utils.get_dashboard_dependency_error)


def test_who_waits_ends_with_the_first_of_the_named_and_not_with_another() -> None:
    parent = f"""
import os, subprocess, sys
start = lambda code: subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE)
other, named = start("pass"), start("input()")
os.execv(sys.executable, [sys.executable, "-S", {str(Path(ray_wait.__file__))!r}, str(named.pid)])
"""
    # The pipe to `named` closes with the exec, which ends it.
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ended" in done.stderr


def test_serve_is_imported_without_pandas_by_what_rays_workers_call_first() -> None:
    hook = RAY[ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR]
    worker = f"""
import sys
from ray._private.runtime_env.setup_hook import load_and_execute_setup_hook
assert load_and_execute_setup_hook({hook!r}) is None
import ray.serve
assert "pandas" not in sys.modules
import pandas
assert pandas.DataFrame
"""
    subprocess.run([sys.executable, "-c", worker], check=True)
