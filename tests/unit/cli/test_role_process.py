import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

PARENT = """
import sys, time
from pathlib import Path
from driftloop_cli.role_process import RoleProcess

def body():
    {body}

kept = open(sys.argv[1] + ".kept", "w")
role = RoleProcess(body, "driftloop role tried", Path(sys.argv[1]))
print(role.pid, flush=True)
if sys.stdin.readline() == "stop\\n":
    role.terminate()
role.wait(120)
print(role.returncode, flush=True)
"""


class Parent:
    """A process of its own that forks `body`: this one has threads, which must not fork."""

    def __init__(self, body: str, log: Path) -> None:
        code = PARENT.format(body=body)
        argv = [sys.executable, "-c", code, str(log)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.child = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ended_with(self, ask: str = "") -> int:
        """The role's return code."""
        assert self.process.stdin is not None
        self.process.stdin.write(ask + "\n")
        self.process.stdin.flush()
        code = int(self._line())
        self.process.communicate()
        return code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("print('done')", 0),
        ("sys.exit(3)", 3),
        ("sys.exit()", 0),
        ("sys.exit('no settings')", 1),
        ("raise ValueError('it broke')", 1),
    ],
)
def test_a_role_ends_with_the_code_of_its_body(body: str, code: int, tmp_path: Path) -> None:
    assert Parent(body, tmp_path / "log").ended_with() == code


def test_what_a_role_prints_and_why_it_broke_is_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    Parent("print('begun'); raise ValueError('it broke')", log).ended_with()
    text = log.read_text()
    assert "begun\n" in text
    assert "ValueError: it broke" in text


def test_exit_functions_of_the_role_run_and_those_of_its_parent_do_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    Parent("import atexit; atexit.register(print, 'closed')", log).ended_with()
    assert log.read_text() == "closed\n"


def test_a_role_holds_none_of_its_parents_files_and_leads_its_own_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = "import os; print(os.getsid(0) == os.getpid(), *sorted(os.listdir('/proc/self/fd')))"
    Parent(body, log).ended_with()
    leads, *files = log.read_text().split()
    assert leads == "True"
    assert set(files) <= {"0", "1", "2", "3"}  # 3: the listing itself


def test_a_role_that_is_asked_to_stop_ends_by_the_signal(tmp_path: Path) -> None:
    parent = Parent("time.sleep(60)", tmp_path / "log")
    assert parent.ended_with("stop") == -signal.SIGTERM


def test_a_role_ends_with_its_parent(tmp_path: Path) -> None:
    parent = Parent("time.sleep(60)", tmp_path / "log")
    child = psutil.Process(parent.child)
    _until(lambda: "tried" in " ".join(child.cmdline()))
    os.kill(parent.process.pid, signal.SIGKILL)
    parent.process.communicate()
    _, alive = psutil.wait_procs([child], timeout=120)
    assert not alive


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
