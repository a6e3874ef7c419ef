import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_contracts.events import LabelEvent, parse_feedback
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.capture.appender import COMPILED
from driftloop_serving.capture.spool import SPARE, SpoolWriter, position, segment_name
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.capture.spool_record import LabelRecord, PredictionBatch
from driftloop_settings import CaptureSettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 1)), TensorSpec("c", "BYTES", (-1, 1))),
    (TensorSpec("p", "FP64", (-1, 2)),),
)
CAPTURE = CaptureSettings(segment_bytes=1 << 16)


Open = Callable[..., SpoolWriter]


@pytest.fixture(params=["mapped", "written"], scope="module")
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens the writer of a spool in a folder. Records reach a segment through a map or by
    writes."""
    if request.param == "mapped" and not COMPILED:
        pytest.skip("built without a C compiler")

    def open_writer(
        root: Path, capture: CaptureSettings = CAPTURE, prefix: str = "replica", **limits: float
    ) -> SpoolWriter:
        return SpoolWriter(root, prefix, capture, mapped=request.param == "mapped", **limits)

    return open_writer


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Affects files opened from now on; existing maps keep their space."""

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr("driftloop_serving.capture.spool.os.posix_fallocate", no_room)


def keep(writer: SpoolWriter, *counts: int, version: int = 1, **changes: Any) -> None:
    """Return requests with these numbers of rows (default: one with two), answered in one run."""
    counts = counts or (2,)
    rows = sum(counts)
    batch = PredictionBatch(
        "m",
        version,
        "stable",
        [f"id-{n}" for n in range(len(counts))],
        [0.1] * len(counts),
        [*counts],
        SIGNATURE,
        {
            "x": np.arange(rows, dtype=np.float32).reshape(rows, 1),
            "c": np.full((rows, 1), "é", dtype=object),
        },
        {"p": np.zeros((rows, 2))},
    )
    writer.append([batch._replace(**changes)])


def reader_of(writer: SpoolWriter, root: Path) -> SpoolReader:
    return SpoolReader(root / writer.replica)


def dropped(reader: SpoolReader) -> dict[str, int]:
    found: dict[str, int] = reader.ledger()["m", 1]["dropped"]
    return found


def end_of(writer: SpoolWriter) -> int:
    """Return the records in the current segment."""
    return writer.end - position(writer.segment, 0)


def read_all(reader: SpoolReader) -> list[Any]:
    found: list[Any] = []
    while (chunk := reader.read(1 << 14)).records:
        found.extend(chunk.records)
        reader.acknowledge(chunk, {})
    return found


def test_what_was_kept_is_read_in_order_with_gapless_sequences(
    opened: Open, tmp_path: Path
) -> None:
    writer = opened(tmp_path)
    for n in range(1000):
        keep(writer, 1 + n % 3, version=1 + n % 2)
    records = read_all(reader_of(writer, tmp_path))
    assert len(records) == 1000
    for version in (1, 2):
        assert [r.first_sequence for r in records if r.version == version] == list(range(500))
    assert records[1].inputs["x"].tolist() == [[0.0], [1.0]]
    assert records[1].inputs["c"].tolist() == [["é"], ["é"]]
    assert records[1].outputs["p"].shape == (2, 2)
    assert records[1].signature == SIGNATURE


def test_requests_of_one_run_are_kept_together_and_each_has_its_sequence(
    opened: Open, tmp_path: Path
) -> None:
    writer = opened(tmp_path)
    keep(writer, 1, 3, 2)
    keep(writer)
    together, after = read_all(reader_of(writer, tmp_path))
    assert (together.first_sequence, together.last_sequence, after.first_sequence) == (0, 2, 3)
    assert together.counts == [1, 3, 2]
    part = together.part(1, 3)
    assert (part.ids, part.first_sequence, part.rows) == (["id-1", "id-2"], 1, 5)
    assert part.inputs["x"].ravel().tolist() == [1, 2, 3, 4, 5]


def test_an_error_is_kept_without_outputs(opened: Open, tmp_path: Path) -> None:
    writer = opened(tmp_path)
    keep(writer, outputs=None, error="Fail")
    (record,) = read_all(reader_of(writer, tmp_path))
    assert record.outputs is None
    assert record.error == "Fail"


def test_a_label_is_read_as_what_feedback_understands(opened: Open, tmp_path: Path) -> None:
    writer = opened(tmp_path, prefix="gateway")
    label = LabelEvent("id", 3, "yes", NOW, NOW, "api", "label", {"a": "b"})
    assert writer.append_labels([label])
    (record,) = read_all(reader_of(writer, tmp_path))
    assert isinstance(record, LabelRecord)
    import json

    assert parse_feedback(json.loads(record.document), NOW) == [label]


def test_acknowledged_segments_are_removed_and_a_restarted_reader_goes_on(
    opened: Open, tmp_path: Path
) -> None:
    writer = opened(tmp_path)
    folder = tmp_path / writer.replica
    for _ in range(2000):
        keep(writer)
    reader = SpoolReader(folder)
    for _ in range(5):
        reader.acknowledge(reader.read(1 << 14), {})
    again = SpoolReader(folder)
    assert again.ledger() == reader.ledger()
    rest = read_all(again)
    assert len(list(folder.glob("*.log"))) == 1
    entry = again.ledger()["m", 1]
    assert entry == {"served": 4000, "acked": 4000, "spooled": 0, "dropped": {}}
    assert 0 < len(rest) < 2000


def test_over_the_quota_predictions_are_dropped_and_counted(opened: Open, tmp_path: Path) -> None:
    capture = CaptureSettings(segment_bytes=1 << 16, quota_bytes=1 << 18)
    writer = opened(tmp_path, capture)
    for _ in range(3000):
        keep(writer)
    reader = reader_of(writer, tmp_path)
    entry = reader.ledger()["m", 1]
    assert entry["served"] == 6000
    assert entry["dropped"]["quota"] > 0
    assert entry["served"] == entry["spooled"] + entry["dropped"]["quota"]
    assert len(read_all(reader)) * 2 == entry["spooled"]


def test_after_the_quota_was_freed_predictions_are_kept_again(opened: Open, tmp_path: Path) -> None:
    capture = CaptureSettings(segment_bytes=1 << 16, quota_bytes=1 << 18)
    writer = opened(tmp_path, capture, rescan_s=0.0)
    reader = reader_of(writer, tmp_path)
    for _ in range(5):
        for _ in range(200):
            keep(writer)
        read_all(reader)
    assert reader.ledger()["m", 1]["dropped"] == {}


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_cannot_be_written_costs_capture_and_is_counted(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(tmp_path)
    keep(writer)
    real = os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        return real(file, data[: len(data) // 2], at)  # what a full disk does

    monkeypatch.setattr("driftloop_serving.capture.spool.os.pwrite", full)
    keep(writer)
    monkeypatch.setattr("driftloop_serving.capture.spool.os.pwrite", real)
    keep(writer)
    reader = reader_of(writer, tmp_path)
    assert [r.first_sequence for r in read_all(reader)] == [0, 1]
    assert reader.ledger()["m", 1]["dropped"] == {"disk": 2}


def test_a_record_that_cannot_be_encoded_leaves_no_gap(opened: Open, tmp_path: Path) -> None:
    writer = opened(tmp_path)
    keep(writer)
    half_a_character = {"x": np.zeros((2, 1), np.float32), "c": np.full((2, 1), "\ud800", object)}
    with pytest.raises(UnicodeEncodeError):
        keep(writer, inputs=half_a_character)
    keep(writer)
    assert [r.first_sequence for r in read_all(reader_of(writer, tmp_path))] == [0, 1]


@pytest.mark.usefixtures("full_disk")
def test_what_was_acknowledged_frees_a_full_disk(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the segment is far from full, because only full ones are removed."""
    writer = opened(tmp_path)
    keep(writer)
    real = os.pwrite
    monkeypatch.setattr("driftloop_serving.capture.spool.os.pwrite", lambda file, data, at: 0)
    keep(writer)
    monkeypatch.setattr("driftloop_serving.capture.spool.os.pwrite", real)
    reader = reader_of(writer, tmp_path)
    read_all(reader)
    assert sum(segment.stat().st_size for segment in reader.folder.glob("*.log")) == 0


def test_a_segment_that_was_read_is_written_over(opened: Open, tmp_path: Path) -> None:
    """Frames of the older segment, with the same sizes at the same offsets, are not read again."""
    writer = opened(tmp_path)
    reader = reader_of(writer, tmp_path)
    found: list[Any] = []
    files = set()
    for n in range(3000):
        keep(writer)
        files.add(os.fstat(writer.file).st_ino)
        if n % 7 == 0:
            found.extend(read_all(reader))
    found.extend(read_all(reader))
    assert [r.first_sequence for r in found] == list(range(3000))
    assert writer.segment > 5
    assert len(files) <= 3


def test_behind_a_tear_an_older_segments_frames_are_not_read(opened: Open, tmp_path: Path) -> None:
    """The state after a kill during a write, in the worst place: between two frames."""
    writer = opened(tmp_path)
    reader = reader_of(writer, tmp_path)
    while writer.segment < 3:
        keep(writer)
        read_all(reader)
    log = writer.folder / segment_name(writer.segment)
    older = log.read_bytes()
    keep(writer)
    end = end_of(writer)
    writer.close()
    log.write_bytes(log.read_bytes()[:end] + older[end:])
    assert len(read_all(reader)) == 1
    reader.close_books()
    entry = reader.ledger()["m", 1]
    assert (entry["served"], entry["spooled"], entry["dropped"]) == (entry["acked"], 0, {})


def test_a_spare_segment_gives_way_on_a_full_disk(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(tmp_path)
    reader = reader_of(writer, tmp_path)
    while writer.segment < 1:
        keep(writer)
    read_all(reader)
    assert (writer.folder / SPARE).exists()
    monkeypatch.setattr("driftloop_serving.capture.spool.os.pwrite", lambda file, data, at: 0)
    while not dropped(reader):
        keep(writer)
    assert not (writer.folder / SPARE).exists()


def test_counts_of_a_writer_of_an_earlier_release_are_read(opened: Open, tmp_path: Path) -> None:
    """The earlier release used another name for them."""
    writer = opened(tmp_path)
    keep(writer)
    writer.count_degraded("m/1", 2, "ack_timeout")
    writer.close()
    stats = writer.folder / "stats"
    written = b"m/1 weaker ack_timeout"
    page = stats.read_bytes().replace(b"m/1 degraded ack_timeout", written + b"\0\0")
    assert written in page
    stats.write_bytes(page)
    counts = reader_of(writer, tmp_path).counts()["m/1"]
    assert (counts["served"], counts["degraded"]) == (2, {"ack_timeout": 2})


def test_a_writer_is_dead_when_its_lock_is_free(opened: Open, tmp_path: Path) -> None:
    writer = opened(tmp_path)
    reader = reader_of(writer, tmp_path)
    assert not reader.writer_is_dead()
    writer.close()
    assert reader.writer_is_dead()


def test_rows_in_a_damaged_log_are_counted_as_dropped_when_its_writer_is_dead(
    opened: Open,
    tmp_path: Path,
) -> None:
    writer = opened(tmp_path)
    for _ in range(10):
        keep(writer)
    writer.close()
    log = next((tmp_path / writer.replica).glob("*.log"))
    data = bytearray(log.read_bytes())
    data[end_of(writer) // 2] ^= 0xFF
    log.write_bytes(data)
    reader = reader_of(writer, tmp_path)
    read = read_all(reader)
    reader.close_books()
    entry = reader.ledger()["m", 1]
    assert entry["acked"] == 2 * len(read) < 20
    assert entry["dropped"] == {"damaged": 20 - 2 * len(read)}
    assert entry["spooled"] == 0


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400), kept=st.integers(1, 30), restarts=st.integers(0, 3))
def test_wherever_a_tail_is_torn_what_came_before_is_read_once(
    opened: Open, cut: int, kept: int, restarts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("spool")
    writer = opened(root)
    for _ in range(kept):
        keep(writer)
    writer.close()
    log = next((root / writer.replica).glob("*.log"))
    size = end_of(writer)
    with log.open("r+b") as file:
        file.truncate(max(0, size - cut))
    found: list[PredictionBatch] = []
    for _ in range(restarts):
        reader = reader_of(writer, root)
        chunk = reader.read(600)
        reader.acknowledge(chunk, {})
        found.extend(chunk.predictions)
    found.extend(read_all(reader_of(writer, root)))
    whole = max(0, size - cut) // (size // kept)
    assert [r.first_sequence for r in found] == list(range(len(found)))
    assert abs(len(found) - whole) <= 1


def test_a_removed_folder_is_out_of_sight_before_its_files_go(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(tmp_path)
    writer.close()
    # The kill comes after the first step.
    monkeypatch.setattr(
        "driftloop_serving.capture.spool_reader.shutil.rmtree", lambda *_, **__: None
    )
    reader_of(writer, tmp_path).remove()
    assert all(folder.name.startswith(".") for folder in tmp_path.iterdir())


def test_a_segment_that_grows_and_ends_while_it_is_looked_at_is_read_to_its_end(
    opened: Open,
    tmp_path: Path,
) -> None:
    writer = opened(tmp_path)
    kept = 0

    def rotate() -> None:
        nonlocal kept
        segments = len(list((tmp_path / writer.replica).glob("*.log")))
        while len(list((tmp_path / writer.replica).glob("*.log"))) <= segments:
            keep(writer, 1000)
            kept += 1

    class Busy(SpoolReader):
        """The writer is fastest at the moment when it looks for the next segment."""

        busy = True

        def _has_next(self) -> bool:
            if self.busy:
                rotate()
            found = super()._has_next()
            if self.busy:
                rotate()
            self.busy = False
            return found

    found: list[Any] = []
    reader = Busy(tmp_path / writer.replica)
    for _ in range(5):
        reader.busy = True
        found.extend(read_all(reader))
    assert [r.first_sequence for r in found] == list(range(kept))
