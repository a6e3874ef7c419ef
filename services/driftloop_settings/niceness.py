"""Gives way to other processes, wherever the kernel counts: by process, and by session."""

import os
import time
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
TRIES, REST_S = 50, 0.1


def give_way(nice: int, leader: int | None = None) -> None:
    """Add `nice` to this process's niceness, and set that of its session to the sum.

    Outside of containers Linux shares a core between sessions first (`sched_autogroup_enabled`,
    Debian's and Ubuntu's default), and a process's niceness counts only within its own. `leader`:
    the process that leads the session, if it is not this one; a session that another leads (a
    user's shell, say) is left as it is.
    """
    now = os.nice(nice)
    if os.getsid(0) != (leader or os.getpid()):
        return
    for _ in range(TRIES):
        try:
            AUTOGROUP.write_text(str(now))
        except BlockingIOError:  # all of a machine's users share ten changes a second
            time.sleep(REST_S)
        except OSError:  # a kernel without, or not ours to change
            return
        else:
            return
