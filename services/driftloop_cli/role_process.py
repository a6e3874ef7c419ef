"""Runs a role in a forked child. The supervisor imports its module first, so that shared modules
are imported and stored once.

Only a process without other threads may fork: a lock held by another thread would stay locked in
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
    """Import a module before the fork. An error is ignored here, because the role will raise and
    log it."""
    with contextlib.suppress(Exception):
        importlib.import_module(module)
    # The garbage collector would write to all objects, and so copy their memory pages.
    gc.freeze()


class RoleProcess:
    """The parent's view of a role. `returncode`: None while it runs; negative: the signal that
    ended it."""

    def __init__(self, body: Callable[[], None], title: str, log: Path) -> None:
        """Fork. The child runs `body` in a new session and exits with 0, with the argument of
        `sys.exit`, or with 1 after an exception, which is written to `log`. The kernel ends it when
        the parent dies."""
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
        """Wait for the end, at most `timeout_s` (None: no limit). Returns whether it has ended."""
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
    """Run the child and return its exit code. It drops everything inherited from the parent: signal
    handlers, exit functions and open files, including the supervisor's lock."""
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
