"""A role as a child that is forked, not executed anew: its module is imported by the supervisor
first, so that what the roles share is imported and held in memory once.

Only a process without other threads may fork: a lock that another thread holds would stay locked in
the child forever.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from setproctitle import setproctitle

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def import_before_fork(module: str) -> None:
    """What fails here fails again in the role, whose log then says why."""
    with contextlib.suppress(Exception):
        importlib.import_module(module)
    # The collector would write to every object it visits, and so copy the pages they lie in.
    gc.freeze()


class RoleProcess:
    """The parent's side. `returncode`: None while it runs; negative: the signal that ended it."""

    def __init__(self, body: Callable[[], None], title: str, log: Path) -> None:
        """Fork: the child runs `body` in a session of its own and ends with 0, with what `body`
        gives to `sys.exit`, or with 1 after an exception, whose traceback is then in `log`. The
        kernel ends it when the parent dies."""
        self.returncode: int | None = None
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_child(body, title, log, parent))

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it has ended within `timeout_s` (None: wait as long as it takes)."""
        if self.poll() is None:
            ended = os.pidfd_open(self.pid)
            try:
                poller = select.poll()
                poller.register(ended, select.POLLIN)
                poller.poll(None if timeout_s is None else timeout_s * 1000)
            finally:
                os.close(ended)
        return self.poll() is not None

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


def _child(body: Callable[[], None], title: str, log: Path, parent: int) -> int:
    """The exit code. Nothing of the parent's goes on here: neither its signal handlers nor its
    exit functions, and none of its files, since the supervisor's lock is one of them."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        atexit._clear()
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (sink, 1), (sink, 2)):
            os.dup2(source, target)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        setproctitle(title)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            return 1
        code = _run(body)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        return code
    except BaseException:
        traceback.print_exc()
        return 1


def _run(body: Callable[[], None]) -> int:
    try:
        body()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0
