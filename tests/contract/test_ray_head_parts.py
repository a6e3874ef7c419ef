"""What `ray_start` replaces in Ray, and the program that waits in its place."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import ray._private.utils as utils
from ray._private.node import Node
from ray.scripts import scripts

from driftloop_serving.cluster import ray_wait


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
