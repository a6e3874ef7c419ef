"""Lowers the priority of a process and of its session."""

import os
import time
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
TRIES, REST_S = 50, 0.1


def give_way(nice: int, leader: int | None = None) -> None:
    """Add `nice` to this process's niceness, and set that of its session to the sum.

    Outside of containers Linux shares a core between sessions first (`sched_autogroup_enabled`, the
    default of Debian and Ubuntu), and a process's niceness only counts within its session.
    `leader`: the process that leads the session, if it is not this one; a session with another
    leader (such as a user's shell) is not changed.
    """
    now = os.nice(nice)
    if os.getsid(0) != (leader or os.getpid()):
        return
    for _ in range(TRIES):
        try:
            AUTOGROUP.write_text(str(now))
        except BlockingIOError:  # all users of a machine share ten changes per second
            time.sleep(REST_S)
        except OSError:  # not supported by the kernel, or not permitted
            return
        else:
            return
