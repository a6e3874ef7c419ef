import os
import subprocess
import sys

import pytest

from driftloop_settings.niceness import AUTOGROUP

PROGRAM = """
import os, sys
from driftloop_settings.niceness import AUTOGROUP, give_way
give_way(7, *map(int, sys.argv[1:]))
print(os.nice(0), *(AUTOGROUP.read_text().split()[-1:] if AUTOGROUP.exists() else []))
"""


def seen_after(*words: str, session: bool) -> list[str]:
    """Return the niceness of a process that gave way, and of its session if the kernel supports
    it."""
    argv = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, start_new_session=session
    )
    return done.stdout.split()


@pytest.fixture
def nice() -> int:
    """Our niceness, which a child inherits."""
    return os.nice(0)


def test_a_session_of_its_own_gives_way_as_its_process_does(nice: int) -> None:
    wanted = str(min(nice + 7, 19))
    assert seen_after(session=True) == [wanted] * (2 if AUTOGROUP.exists() else 1)


def test_the_session_of_somebody_else_is_left_as_it_is(nice: int) -> None:
    # The session that a machine begins with has no group of its own, and shows none.
    session = AUTOGROUP.read_text().split()[-1:] if AUTOGROUP.exists() else []
    assert seen_after(session=False) == [str(min(nice + 7, 19)), *session]


def test_a_child_lets_the_session_that_its_parent_leads_give_way(nice: int) -> None:
    program = (
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1], str(os.getpid())], check=True)"
    )
    argv = [sys.executable, "-c", program, PROGRAM]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, start_new_session=True)
    assert done.stdout.split() == [str(min(nice + 7, 19))] * (2 if AUTOGROUP.exists() else 1)
