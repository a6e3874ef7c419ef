"""`ray start` without the parts of Ray that nobody asks here: the dashboard's server and the server
of remote Ray clients, with the dashboard's agent as small as it gets; and in place of the process
that looks after the head's others, one without Ray in it. They would cost every start several
seconds of a core and the machine 350 MB. Ray has no options for that.

The replaced parts are private to Ray; `tests/contract/test_ray_head_parts.py` holds it.
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
"""How long the head may take on a busy machine. Ray gives up after 30 s; started
again, it would meet the same machine."""


def leave_out_the_unasked() -> None:
    """In this process only: what starts these parts starts nothing."""
    Node.start_api_server = lambda _node, **_options: None
    Node.start_ray_client_server = lambda _node: None
    # The agent then loads none of the modules that need the dashboard's dependencies.
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")
    services.get_node = _patient(services.get_node)
    # `ray start --block` asks this every second once all have started.
    Node.dead_processes = _only_wait


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Ray asks for its own node until it is registered."""

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
    """Become the program that only waits for the head's processes; they stay our children."""
    processes = [info.process for infos in node.all_processes.values() for info in infos]
    pids = [str(process.pid) for process in processes]
    argv = [sys.executable, "-E", "-S", str(Path(ray_wait.__file__)), *pids]
    os.execv(sys.executable, argv)


if __name__ == "__main__":
    leave_out_the_unasked()
    main()
