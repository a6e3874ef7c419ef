"""Spools with a torn tail, and with a damaged middle."""

import fcntl
import os
import struct
import time
from collections import Counter
from pathlib import Path

import pytest
from answered_load import answered_load
from fault_stack import MODEL, FaultStack, until
from lake_account import Account, Outcome, Report, settled

from driftloop_serving.capture.spool_record import frames

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


def test_a_torn_tail_costs_nothing(stack: FaultStack, report: Report) -> None:
    """What a write leaves that a power cut halved."""

    def tear(segment: Path) -> None:
        data = segment.read_bytes()
        (length,) = struct.unpack_from("<I", data)
        with segment.open("r+b") as file:
            file.seek(end_of(segment))
            file.write(data[: (8 + length) // 2])

    dropped = dropped_so_far(stack)
    account = harmed(stack, report, "torn spool tail", tear, dropped)
    assert account.sound, account
    assert dropped_so_far(stack) == dropped


def test_what_a_damaged_segment_costs_is_counted(stack: FaultStack, report: Report) -> None:
    def damage(segment: Path) -> None:
        with segment.open("r+b") as file:
            file.seek(end_of(segment) - 20)  # in what is not shipped yet
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0xFF]))

    dropped = dropped_so_far(stack)
    account = harmed(stack, report, "flipped byte in a spool", damage, dropped)
    assert account.sound, account
    assert account.dropped["damaged"] > 0


def holds_records(segment: Path) -> bool:
    return any(True for _ in frames(segment.read_bytes(), int(segment.stem)))


def end_of(segment: Path) -> int:
    """Behind its last record: what follows may be an older segment's."""
    return max(end for _, end in frames(segment.read_bytes(), int(segment.stem)))


def harmed(stack: FaultStack, report: Report, fault: str, harm, dropped: int) -> Account:
    """A replica is killed while the shipper hangs, and its last segment harmed before it is
    shipped."""
    began = time.monotonic()
    with answered_load(stack.inference, MODEL) as answered:
        with stack.stopped("shipper"):
            until(lambda: len(answered.rows) > 100, "no answers")
            before = dead_spools(stack)
            assert stack.kill("replica")
            (folder,) = until(lambda: dead_spools(stack) - before, "the dead replica left no spool")
            *_, last = (log for log in sorted(folder.glob("*.log")) if holds_records(log))
            harm(last)
        until(lambda: not folder.exists(), "the dead replica's spool was never closed")
    account = settled(stack.driftloop, MODEL, answered, dropped)
    killed = Counter(replica=1)
    report.add(Outcome(fault, killed, account, time.monotonic() - began))
    return account


def dead_spools(stack: FaultStack) -> set[Path]:
    """The folders that nobody holds the lock of, and that hold something."""
    found = set()
    for folder in (stack.state_dir / "spool").iterdir():
        lock = folder / "lock"
        if folder.name.startswith(".") or not lock.exists():
            continue
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
        if any(segment.stat().st_size for segment in folder.glob("*.log")):
            found.add(folder)
    return found


def dropped_so_far(stack: FaultStack) -> int:
    (model,) = stack.driftloop("status")["models"]
    dropped: int = model["counts"]["dropped"]
    return dropped
