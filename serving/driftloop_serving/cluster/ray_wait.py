"""Waits until one of the child processes given as arguments ends, then exits; the kernel ends the
others with this process, as Ray requested. Run as a file, it imports nothing of driftloop."""

import os
import sys


def wait_for_first(children: set[int]) -> None:
    """Return when one of these processes has ended. Other children may end at any time."""
    while True:
        pid, _ = os.wait()
        if pid in children:
            print(f"Ray's process {pid} ended", file=sys.stderr)
            return


if __name__ == "__main__":
    wait_for_first({int(pid) for pid in sys.argv[1:]})
    sys.exit(1)
