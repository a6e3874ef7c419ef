"""`ray start` without the parts that are not needed: the dashboard's server and the server for
remote Ray clients. The dashboard's agent is reduced to a minimum, and the process that monitors the
head's other processes is replaced by one that does not load Ray. This saves several CPU seconds per
start and 350 MB. Ray has no options for it.

The replaced parts are private to Ray; `tests/contract/test_ray_head_parts.py` checks them.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray._private.services as services
import ray._private.utils as utils
from ray._private.node import Node
from ray.scripts.scripts import main

from driftloop_serving.cluster import ray_wait

START_S = 150.0
"""How long the head may take to start on a busy machine, in seconds. Ray's 30 s may be too short,
and a restart would face the same load."""


def leave_out_the_unasked() -> None:
    """Replace the functions that start these parts, in this process only."""
    Node.start_api_server = lambda _node, **_options: None
    Node.start_ray_client_server = lambda _node: None
    # Makes the agent skip all modules that need the dashboard's dependencies.
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")
    services.get_node = _patient(services.get_node)
    # `ray start --block` calls this every second once all processes have started.
    Node.dead_processes = _only_wait


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Make Ray wait longer until its own node is registered."""

    def found(*arguments: Any) -> Any:
        deadline = time.monotonic() + START_S
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    return found


def _only_wait(node: Node) -> None:
    """Replace this process by the small program that waits for the head's processes, which remain
    its children."""
    processes = [info.process for infos in node.all_processes.values() for info in infos]
    pids = [str(process.pid) for process in processes]
    argv = [sys.executable, "-E", "-S", str(Path(ray_wait.__file__)), *pids]
    os.execv(sys.executable, argv)


if __name__ == "__main__":
    leave_out_the_unasked()
    main()
