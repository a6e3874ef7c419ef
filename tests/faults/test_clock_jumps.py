"""The clock of the whole stack jumps by most of a day and more, forth and back: every process of it
is started with a library that moves its wall clock (clock_shift.c); the machine's own clock is left
alone."""

import json
import shutil
import struct
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from answered_load import answered_load
from fault_stack import MODEL, FaultStack, fault_stack, until
from lake_account import Outcome, Report, settled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

JUMPS_S = (20 * 3600.0, -20 * 3600.0, 90.0, -5.0, 0.0)
APART_S = 8.0


def library(folder: Path) -> Path:
    """Compile it."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: `apt-get install gcc libc6-dev`")
    built = folder / "clock_shift.so"
    source = Path(__file__).with_name("clock_shift.c")
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", "-o", str(built), str(source), "-ldl"], check=True
    )
    return built


def test_nothing_is_lost_or_doubled_when_the_clock_jumps(tmp_path: Path, report: Report) -> None:
    shift = tmp_path / "shift"

    def jump(seconds: float) -> None:
        with shift.open("r+b" if shift.exists() else "wb") as file:
            file.write(struct.pack("<d", seconds))

    jump(0)
    environment = {"LD_PRELOAD": str(library(tmp_path)), "CLOCK_SHIFT": str(shift)}
    with fault_stack(tmp_path / "state", environment=environment) as stack:
        began = time.monotonic()
        with answered_load(stack.inference, MODEL) as answered:
            for seconds in JUMPS_S:
                threading.Event().wait(APART_S)
                jump(seconds)
            threading.Event().wait(APART_S)
        # What was under way at the jump back by 40 hours was of a day to come when it was read.
        until(lambda: answered_rows_read(stack) >= sum(answered.rows.values()), "not all was read")
        stack.driftloop("dead-letters", "--replay")
        account = settled(stack.driftloop, MODEL, answered)
        report.add(Outcome("clock jumps by 20 hours", Counter(), account, time.monotonic() - began))
        (spread,) = stack.driftloop(
            "query",
            MODEL,
            "SELECT date_diff('hour', min(predicted_at), max(predicted_at)) AS hours "
            "FROM predictions",
        )
    assert account.sound, account
    assert spread["hours"] >= 39  # the clock did jump


def answered_rows_read(stack: FaultStack) -> int:
    """Rows in the lake, and among its dead letters."""
    (model,) = stack.driftloop("status")["models"]
    letters = [dict(json.loads(d["headers"])) for d in stack.driftloop("dead-letters")]
    return int(model["counts"]["lake_rows"]) + sum(int(h.get("rows", 0)) for h in letters)
