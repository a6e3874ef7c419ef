"""`ray start` without the parts of Ray that nobody asks here: the dashboard's server and the server
of remote Ray clients, and the dashboard's agent as small as it gets. They would cost every start
several seconds of a core and the machine 200 MB. Ray has no option to leave them out.

The names that are replaced are private to Ray; `tests/contract/test_ray_parts.py` holds them.
"""

import ray._private.utils as utils
from ray._private.node import Node
from ray.scripts.scripts import main


def leave_out_the_unasked() -> None:
    """Replace what starts these parts, in this process only."""
    Node.start_api_server = lambda _node, **_options: None
    Node.start_ray_client_server = lambda _node: None
    # The agent then loads none of the modules that need the dashboard's dependencies.
    utils.get_dashboard_dependency_error = lambda: ImportError("left out")


if __name__ == "__main__":
    leave_out_the_unasked()
    main()
