"""The writer on real Delta tables: crashes between any two commits, redelivery, two writers."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_records import id_of_request, label_message, message, prediction_message, prediction_rows

from driftloop_bus.port import Message
from driftloop_contracts.errors import RetryLater
from driftloop_contracts.events import LABELS, PREDICTIONS
from driftloop_lake import layout
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.writer import Appended, LakeWriter
from driftloop_monitoring.archive.bus_records import read_record


class Killed(Exception):
    """The process is gone."""


class MortalWriter(LakeWriter):
    """Dies before its n-th commit."""

    def __init__(self, uri: str, lives: int) -> None:
        super().__init__(uri)
        self._lives = lives

    def _live(self) -> None:
        if self._lives == 0:
            raise Killed
        self._lives -= 1

    def _commit(self, *arguments: object) -> None:
        self._live()
        super()._commit(*arguments)  # type: ignore[arg-type]

    def _advance(self, *arguments: object) -> None:
        self._live()
        super()._advance(*arguments)  # type: ignore[arg-type]


Log = list[Message]  # in the order in which it was sent; several partitions


def read_from(log: Log, writer: LakeWriter) -> Log:
    positions = writer.positions([(topic, n) for topic in (PREDICTIONS, LABELS) for n in (0, 1)])
    return [m for m in log if m.offset >= positions[m.topic, m.partition]]


def archive(log: Log, writer: LakeWriter, flush: int) -> None:
    rest = read_from(log, writer)
    for start in range(0, len(rest), flush):
        writer.append([read_record(m) for m in rest[start : start + flush]])


def rows_of(uri: str, columns: Sequence[str]) -> list[tuple[object, ...]]:
    table = LakeTable.open(uri)
    if table is None:
        return []
    return [tuple(row.values()) for row in table.scan(list(columns)).to_pylist()]


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Replicas that resend and repack, two models, labels and poison, on two partitions."""
    reached: dict[tuple[str, str], int] = {}
    offsets: Counter[tuple[str, int]] = Counter()
    log: Log = []
    for _ in range(draw(st.integers(1, 12))):
        partition = draw(st.integers(0, 1))
        kind = draw(st.sampled_from(["loan", "loan", "price", "label", "poison"]))
        topic = LABELS if kind == "label" else PREDICTIONS
        offset = offsets[topic, partition]
        offsets[topic, partition] += 1
        if kind == "label":
            log.append(
                label_message(
                    offset, partition=partition, prediction_id=f"{partition}-{offset}", label=1
                )
            )
        elif kind == "poison":
            log.append(message(topic, b"no arrow", offset, partition=partition))
        else:
            replica = f"r{partition}"
            next_one = reached.get((kind, replica), 0)
            first = draw(st.integers(max(0, next_one - 3), next_one))
            last = first + draw(st.integers(0, 3))
            reached[kind, replica] = max(next_one, last + 1)
            rows = prediction_rows(first, last, replica=replica)
            log.append(prediction_message(rows, offset, model=kind, partition=partition))
    return log


@settings(max_examples=25, deadline=None)
@given(logs(), st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), max_size=4))
def test_each_row_is_there_once_wherever_the_archiver_was_killed(
    log: Log, lives: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as uri:
        for commits, flush in lives:
            try:
                archive(log, MortalWriter(uri, commits), flush)
            except Killed:
                continue
        archive(log, LakeWriter(uri), flush=4)

        key = ("prediction_id", "row", "replica", "sequence")
        for model in ("loan", "price"):
            sent = {
                tuple(row[name] for name in key)
                for m in log
                if (b := read_record(m))
                and getattr(getattr(b, "headers", None), "model", "") == model
                for row in b.rows.to_pylist()  # type: ignore[union-attr]
            }
            found = rows_of(layout.predictions_uri(uri, model), key)
            assert len(found) == len(set(found))
            assert set(found) == sent
        labels = [f"{m.partition}-{m.offset}" for m in log if m.topic == LABELS]
        found_labels = rows_of(layout.labels_uri(uri), ["prediction_id"])
        assert sorted(found_labels) == sorted((label,) for label in labels)
        poison = [(m.partition, m.offset) for m in log if m.value == b"no arrow"]
        found_dead = rows_of(layout.dead_letters_uri(uri), ["partition", "offset"])
        assert sorted(found_dead) == sorted(poison)
        assert not read_from(log, LakeWriter(uri))


def test_two_writers_of_the_same_records_write_them_once(tmp_path: Path) -> None:
    uri = str(tmp_path)
    log = [prediction_message(prediction_rows(n, n), n) for n in range(6)]
    log += [label_message(n, prediction_id=id_of_request(n), label=[0, 1]) for n in range(6)]
    records = [read_record(m) for m in log]
    one, other = LakeWriter(uri), LakeWriter(uri)
    for writer in (one, other):
        writer.positions([(PREDICTIONS, 0)])
    one.append(records[:2] + records[6:8])
    other.append(records[:4] + records[6:10])
    one.append(records[2:6] + records[8:])  # its snapshot lacks what the other wrote
    pin = DeltaLake(uri).pin("loan")
    assert pin is not None
    counts = DeltaLake(uri).count("loan", pin)
    assert (counts.rows, counts.duplicates, counts.labels) == (12, 0, 12)


def test_a_gap_in_the_sequence_is_no_error(tmp_path: Path) -> None:
    writer = LakeWriter(str(tmp_path))
    for offset, sequence in enumerate((0, 5)):
        record = read_record(prediction_message(prediction_rows(sequence, sequence), offset))
        assert writer.append([record]).predictions == 2


def test_a_version_that_adds_a_column_widens_the_table_and_keeps_old_rows(tmp_path: Path) -> None:
    writer = LakeWriter(str(tmp_path))
    old = prediction_rows(0, 0)
    new = prediction_rows(0, 0, version=2).append_column("in_city", pa.array(["Ulm", "Bonn"]))
    appended = writer.append(
        [read_record(prediction_message(rows, n)) for n, rows in enumerate((old, new))]
    )
    appended_later = writer.append([read_record(prediction_message(prediction_rows(1, 1), 2))])
    assert (appended.predictions, appended_later.predictions) == (4, 2)
    cities = rows_of(layout.predictions_uri(str(tmp_path), "loan"), ["in_city"])
    assert sorted(cities, key=str) == [("Bonn",), ("Ulm",), *[(None,)] * 4]


def test_a_writer_that_lost_a_partition_writes_none_of_its_rows_and_moves_no_fence_back(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path)
    lost = [
        read_record(label_message(n, prediction_id=f"lost-{n}", label=1, partition=0))
        for n in range(6)
    ]
    kept = [
        read_record(label_message(n, prediction_id=f"kept-{n}", label=1, partition=1))
        for n in range(2)
    ]
    zombie, owner = LakeWriter(uri), LakeWriter(uri)
    zombie.positions([(LABELS, 0), (LABELS, 1)])
    owner.positions([(LABELS, 0)])
    owner.append(lost)
    zombie.append(lost[:3] + kept)
    labels = LakeTable.open(layout.labels_uri(uri))
    assert labels is not None
    assert labels.mark(f"kafka:{LABELS}:0") == 5
    found = rows_of(layout.labels_uri(uri), ["prediction_id"])
    assert sorted(found) == sorted(
        [(f"lost-{n}",) for n in range(6)] + [(f"kept-{n}",) for n in range(2)]
    )


def test_a_record_read_twice_in_one_batch_is_written_once(tmp_path: Path) -> None:
    records = [read_record(label_message(n, prediction_id="a", label=1)) for n in (0, 1, 0, 1)]
    assert LakeWriter(str(tmp_path)).append(records).labels == 2


def test_writers_that_make_a_table_at_once_with_other_columns_both_keep_their_rows(
    tmp_path: Path,
) -> None:
    uri, cities = str(tmp_path), pa.array(["Ulm", "Bonn"])
    wide = prediction_rows(0, 0, replica="r2").append_column("in_city", cities)
    messages = [
        prediction_message(prediction_rows(0, 0), 0),
        prediction_message(wide, 0, partition=1),
    ]

    def append(message: Message) -> Appended:
        writer = LakeWriter(uri)
        while True:  # as the archiver does
            with suppress(RetryLater):
                return writer.append([read_record(message)])

    with ThreadPoolExecutor() as pool:
        # What an attempt wrote that seemed to collide counts as repeated.
        assert [a.predictions + a.repeated for a in pool.map(append, messages)] == [2, 2]
    assert len(rows_of(layout.predictions_uri(uri, "loan"), ["in_city"])) == 4
