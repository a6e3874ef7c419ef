"""Wait until one of the child processes that the arguments name ends, and end then. The kernel ends
the others with this process (Ray asked for that). Run as a file: it imports nothing of ours."""

import os
import sys


def wait_for_first(children: set[int]) -> None:
    """Returns when one of them has ended. Other children end as they please."""
    while True:
        pid, _ = os.wait()
        if pid in children:
            print(f"Ray's process {pid} ended", file=sys.stderr)
            return


if __name__ == "__main__":
    wait_for_first({int(pid) for pid in sys.argv[1:]})
    sys.exit(1)
