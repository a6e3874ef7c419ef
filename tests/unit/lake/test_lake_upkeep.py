import os
import threading
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_records import id_of_request, label_message, prediction_message, prediction_rows

from driftloop_contracts.errors import NotFound
from driftloop_lake import layout
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.delta_log import LogFile, expired, horizon, to_checkpoint
from driftloop_lake.port import LakeCounts, Pin
from driftloop_lake.upkeep import Rules, Upkeep
from driftloop_lake.upkeep_table import UpkeepTable
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_monitoring.archive.lake_maintenance import kept

NOW = datetime.now(UTC)
RULES = Rules(compact_files=5, vacuum_hours=8)


class Kept:
    """A lake that a writer fills request by request, and its upkeep."""

    def __init__(self, uri: str) -> None:
        self.uri, self.count = uri, 0
        self.writer, self.lake = LakeWriter(uri), DeltaLake(uri)
        self.pins: list[tuple[str, Pin]] = []

    def write(self, requests: int, *, at_once: bool = False) -> None:
        records = [
            [
                read_record(prediction_message(prediction_rows(number, number), number)),
                read_record(
                    label_message(number, prediction_id=id_of_request(number), label=[0, 1])
                ),
            ]
            for number in range(self.count, self.count + requests)
        ]
        for some in [list(chain(*records))] if at_once else records:
            self.writer.append(some)
        self.count += requests

    def upkeep(self, rules: Rules = RULES) -> Upkeep:
        return Upkeep(self.uri, rules, lambda: self.pins)

    def pin(self) -> Pin:
        found = self.lake.pin("loan")
        assert found is not None
        return found

    @property
    def folder(self) -> Path:
        return Path(layout.predictions_uri(self.uri, "loan"))

    def files(self) -> int:
        return len(list(self.folder.glob("date=*/*.parquet")))

    def age(self, hours: float) -> None:
        """All files of the lake are older from now on."""
        for path in Path(self.uri).rglob("*"):
            if path.is_file():
                then = path.stat().st_mtime - hours * 3600
                os.utime(path, (then, then))


@pytest.fixture
def lake(tmp_path: Path) -> Kept:
    return Kept(str(tmp_path))


def test_a_compacted_file_has_small_row_groups(lake: Kept) -> None:
    lake.write(6)
    small = set(lake.folder.glob("date=*/*.parquet"))
    table = UpkeepTable.open(str(lake.folder))
    assert table is not None
    table.compact(row_group_rows=4)
    (compacted,) = set(lake.folder.glob("date=*/*.parquet")) - small
    file = pq.ParquetFile(compacted).metadata
    groups = [file.row_group(number) for number in range(file.num_row_groups)]
    assert sum(group.num_rows for group in groups) == lake.lake.count("loan", lake.pin()).rows
    assert max(group.num_rows for group in groups) == 4
    assert {group.column(0).compression for group in groups} == {"ZSTD"}


def test_small_files_are_compacted_once_there_are_enough(lake: Kept) -> None:
    lake.write(4)
    lake.upkeep().step(NOW)
    before = lake.pin()
    lake.write(2)
    lake.upkeep().step(NOW)
    table = UpkeepTable.open(str(lake.folder))
    assert table is not None
    assert table.small_files() == 1
    assert lake.lake.count("loan", before) == LakeCounts(8, 0, 8)
    assert lake.lake.count("loan", lake.pin()) == LakeCounts(12, 0, 12)


def test_writers_and_readers_that_were_at_work_go_on_after_upkeep(lake: Kept) -> None:
    lake.write(8)
    pin = lake.pin()
    for _ in range(3):
        lake.upkeep().step(NOW)
        lake.write(6)
    assert DeltaLake(lake.uri).count("loan", pin) == LakeCounts(16, 0, 16)
    assert lake.lake.count("loan", lake.pin()) == LakeCounts(52, 0, 52)


def test_old_versions_go_and_pinned_ones_stay(lake: Kept) -> None:
    lake.write(3)
    pinned = lake.pin()
    lake.pins = [("loan", pinned)]
    lake.write(3)
    loose = lake.pin()
    lake.upkeep().step(NOW)
    lake.write(100)  # the log has a checkpoint by then
    lake.age(24)
    lake.upkeep().step(datetime.now(UTC) + timedelta(hours=24))
    lake.upkeep().step(datetime.now(UTC) + timedelta(hours=48))
    fresh = DeltaLake(lake.uri)
    newest = fresh.pin("loan")
    assert newest is not None
    assert fresh.count("loan", newest) == LakeCounts(212, 0, 212)
    assert fresh.labelled("loan", pinned).num_rows == 6
    with pytest.raises(NotFound):
        fresh.labelled("loan", loose)
    log = [path.name for path in (lake.folder / "_delta_log").iterdir()]
    assert f"{loose.predictions:020}.json" not in log
    lake.write(1)
    assert lake.lake.count("loan", lake.pin()) == LakeCounts(214, 0, 214)


def test_recent_versions_stay_readable_without_a_pin(lake: Kept) -> None:
    lake.write(8)
    pin = lake.pin()
    upkeep = lake.upkeep()
    upkeep.step(NOW)
    upkeep.step(NOW + timedelta(hours=2))
    assert DeltaLake(lake.uri).count("loan", pin) == LakeCounts(16, 0, 16)


def test_days_beyond_the_retention_are_dropped_but_not_from_pinned_versions(lake: Kept) -> None:
    lake.write(121, at_once=True)  # the second minute is of the next day
    pin = lake.pin()
    lake.pins = [("loan", pin)]
    keep_last_day = (NOW.date() - datetime(2026, 3, 2, tzinfo=UTC).date()).days
    rules = Rules(compact_files=50, vacuum_hours=8, retention_days=keep_last_day)
    lake.upkeep(rules).step(NOW)
    assert lake.lake.count("loan", lake.pin()).rows == 122
    assert DeltaLake(lake.uri).count("loan", pin).rows == 242
    lake.write(2)
    assert lake.lake.count("loan", lake.pin()).rows == 126


def test_nothing_is_deleted_while_nobody_knows_what_is_pinned(lake: Kept) -> None:
    lake.write(8)
    pin, files = lake.pin(), lake.files()

    def unknown() -> list[tuple[str, Pin]]:
        raise ConnectionError

    lake.age(24)
    with pytest.raises(ConnectionError):
        Upkeep(lake.uri, RULES, unknown).step(NOW)
    assert lake.files() == files
    assert lake.lake.count("loan", pin).rows == 16


def test_what_a_writer_that_died_left_is_deleted(lake: Kept) -> None:
    lake.write(1)
    stray = lake.folder / "date=2026-03-01" / "part-00000-stray.zstd.parquet"
    stray.write_bytes(b"half a file")
    lake.upkeep().step(NOW)
    assert stray.exists()
    lake.age(24)
    lake.upkeep().step(datetime.now(UTC))
    assert not stray.exists()


def test_upkeep_works_only_while_its_archiver_leads(lake: Kept) -> None:
    lake.write(8)
    version, leads = lake.pin().predictions, threading.Event()
    asked = {False: threading.Semaphore(0), True: threading.Semaphore(0)}

    def led() -> bool:
        answer = leads.is_set()
        asked[answer].release()
        return answer

    with kept(lake.upkeep(), led, every_s=0.01):
        for _ in range(5):
            assert asked[False].acquire(timeout=120)
        assert lake.pin().predictions == version
        leads.set()
        for _ in range(5):
            assert asked[True].acquire(timeout=120)
    assert lake.pin().predictions > version


@given(st.lists(st.integers(0, 60), unique=True), st.sets(st.integers(0, 70)), st.integers(0, 61))
def test_each_version_from_the_horizon_on_and_each_pinned_one_stays_readable(
    checkpoints: list[int], pinned: set[int], hours: int
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    files = [LogFile(f"{v:020}.json", start + timedelta(hours=v)) for v in range(61)]
    files += [LogFile(f"{v:020}.checkpoint.parquet", start) for v in checkpoints]
    files.append(LogFile("_last_checkpoint", start))
    bound = horizon(files, start + timedelta(hours=hours))
    made = [f"{v:020}.checkpoint.parquet" for v in to_checkpoint(files, pinned, bound)]
    gone = expired(files, pinned, bound)
    left = ({file.name for file in files} | set(made)) - set(gone)

    def readable(version: int) -> bool:
        from_checkpoint = (
            v for v in range(version, -1, -1) if f"{v:020}.checkpoint.parquet" in left
        )
        first = next(from_checkpoint, -1) + 1
        return all(f"{v:020}.json" in left for v in range(first, version + 1))

    assert bound <= hours
    assert all(readable(v) for v in range(61) if v >= bound or v in pinned)
    assert "_last_checkpoint" in left


def test_the_rows_of_an_erased_model_are_gone_and_later_ones_are_kept(tmp_path: Path) -> None:
    world = Kept(str(tmp_path))
    world.write(3)
    world.lake.erase("loan")
    world.lake.erase("nobody")
    assert world.lake.labelled("loan", world.pin(), only_labelled=False).num_rows == 0
    world.write(2)
    assert world.lake.labelled("loan", world.pin(), only_labelled=False).num_rows == 4
