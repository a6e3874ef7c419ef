"""Wait until one of the child processes that the arguments name ends, and end then. The kernel ends
the others with this process (Ray asked for that). Run as a file: it imports nothing of ours."""

import os
import sys


def wait_for_first(children: set[int]) -> int:
    """The exit code of the first of them to end, negative for a signal. Other children, which end
    as they please, are not counted."""
    while True:
        pid, status = os.wait()
        if pid in children:
            print(f"Ray's process {pid} ended", file=sys.stderr)
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    wait_for_first({int(pid) for pid in sys.argv[1:]})
    sys.exit(1)
