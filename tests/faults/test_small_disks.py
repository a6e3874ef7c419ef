"""No room: over the quota of a spool, and on full disks, one after another: the spool's, the
lake's, the broker's. Each is a small tmpfs, which only root may mount."""

import contextlib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from answered_load import answered_load
from fault_stack import MODEL, FaultStack, fault_stack, until
from lake_account import Outcome, Report, settled

from driftloop_serving.capture.spool import SPARE
from driftloop_serving.capture.stats_page import StatsPage

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

SEGMENT_BYTES = 65_536
SIZES_MB = {"spool": 2, "lake": 64, "kafka": 64}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultStack]:
    state = tmp_path_factory.mktemp("full-disks")
    with contextlib.ExitStack() as mounted:
        for name, megabytes in SIZES_MB.items():
            mounted.enter_context(disk(state / name, megabytes))
        # Small enough that the quota is reached before the disk is full.
        limits = "capture.quota_bytes=300000", f"capture.segment_bytes={SEGMENT_BYTES}"
        with fault_stack(state, *limits) as stack:
            yield stack


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "driftloop-fault", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No room at all is left while the block runs."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        ballast.unlink()


def test_answers_go_on_and_drops_are_counted_over_the_quota(
    small: FaultStack, report: Report
) -> None:
    began = time.monotonic()
    with answered_load(small.inference, MODEL) as answered:
        with small.stopped("shipper"):
            threading.Event().wait(5)
            until(lambda: spooled_bytes(small) > 280_000, "the spool never reached its quota")
            before = len(answered.rows)
            until(lambda: len(answered.rows) > before + 300, "no answers over the quota")
        threading.Event().wait(3)
    account = settled(small.driftloop, MODEL, answered)
    report.add(Outcome("capture quota reached", Counter(), account, time.monotonic() - began))
    assert account.sound, account
    assert not account.failures
    assert account.dropped["quota"] == account.missing_rows > 0


def test_on_a_full_disk_segments_are_written_over_and_nothing_is_dropped(
    small: FaultStack, report: Report
) -> None:
    dropped = dropped_so_far(small)
    began = time.monotonic()
    with answered_load(small.inference, MODEL) as answered:
        until(lambda: writes_over(small), "no segment was taken away")
        with filled(small.state_dir / "spool"):
            before = len(answered.rows)
            until(lambda: len(answered.rows) > before + 200, "no answers with a full disk")
    account = settled(small.driftloop, MODEL, answered, dropped)
    report.add(Outcome("spool's disk full", Counter(), account, time.monotonic() - began))
    assert account.sound, account
    assert not account.failures
    assert dropped_so_far(small) == dropped


def test_answers_go_on_and_drops_are_counted_while_the_spools_disk_is_full(
    small: FaultStack, report: Report
) -> None:
    """And the shipper hangs, so that no segment can be written over."""
    dropped = dropped_so_far(small)
    began = time.monotonic()
    with answered_load(small.inference, MODEL) as answered:
        threading.Event().wait(2)
        with small.stopped("shipper"), filled(small.state_dir / "spool"):
            already = dropped_in_spools(small)
            until(lambda: dropped_in_spools(small) > already, "nothing was dropped on a full disk")
            before = len(answered.rows)
            until(lambda: len(answered.rows) > before + 200, "no answers with a full disk")
        threading.Event().wait(2)
    account = settled(small.driftloop, MODEL, answered, dropped)
    report.add(
        Outcome("spool's disk full, shipper hangs", Counter(), account, time.monotonic() - began)
    )
    assert account.sound, account
    assert not account.failures
    assert account.dropped["disk"] == account.missing_rows > 0
    assert dropped_so_far(small) == dropped + account.missing_rows


@pytest.mark.parametrize(("folder", "pause_s"), [("lake", 0.01), ("kafka", 0.05)])
def test_nothing_is_lost_while_the_disk_of_the_lake_or_the_broker_is_full(
    small: FaultStack, report: Report, folder: str, pause_s: float
) -> None:
    dropped = dropped_so_far(small)
    began = time.monotonic()
    with answered_load(small.inference, MODEL, pause_s=pause_s) as answered:
        threading.Event().wait(2)
        with filled(small.state_dir / folder):
            threading.Event().wait(10)
        threading.Event().wait(2)
    account = settled(small.driftloop, MODEL, answered, dropped)
    report.add(Outcome(f"{folder}'s disk full", Counter(), account, time.monotonic() - began))
    assert account.sound, account
    assert dropped_so_far(small) == dropped


def dropped_so_far(small: FaultStack) -> int:
    (model,) = small.driftloop("status")["models"]
    dropped: int = model["counts"]["dropped"]
    return dropped


def writes_over(small: FaultStack) -> bool:
    """Whether each replica writes over an older segment, and has a spare one for the next."""
    folders = list((small.state_dir / "spool").glob("replica-*"))
    return bool(folders) and all(
        (folder / SPARE).exists() and max(folder.glob("*.log")).stat().st_size >= SEGMENT_BYTES
        for folder in folders
    )


def dropped_in_spools(small: FaultStack) -> int:
    """Rows that the writers counted as dropped for a full disk."""
    found = 0
    for page in (small.state_dir / "spool").glob("replica-*/stats"):
        stats = StatsPage.read(page) or {}
        found += sum(entry["dropped"].get("disk", 0) for entry in stats.values())
    return found


def spooled_bytes(small: FaultStack) -> int:
    return max(
        sum(segment.stat().st_size for segment in folder.glob("*.log"))
        for folder in (small.state_dir / "spool").iterdir()
    )
