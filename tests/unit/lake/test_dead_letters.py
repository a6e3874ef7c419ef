from pathlib import Path

import pytest
from lake_records import id_of_request, label_message, message, prediction_message, prediction_rows

from driftloop_contracts.errors import NotFound
from driftloop_contracts.events import LABELS, PREDICTIONS
from driftloop_lake.dead_letters import DeadLetters
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.port import LakeCounts
from driftloop_lake.records import DeadLetter, KafkaPosition, LakeRecord
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_monitoring.archive.replay import Replayed, replay


def dead(record: LakeRecord, reason: str = "why") -> DeadLetter:
    return DeadLetter(record.origin, reason)


def counts(uri: str) -> LakeCounts:
    lake = DeltaLake(uri)
    pin = lake.pin("loan")
    assert pin is not None
    return lake.count("loan", pin)


def known(model: str) -> bool:
    return model == "loan"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path)


def test_a_dead_letter_is_listed_with_its_place_and_reason_and_kept_whole(uri: str) -> None:
    value = b"x" * (1 << 20)
    sent = message(PREDICTIONS, value, 7, [("model", b"loan")], partition=1)
    LakeWriter(uri).append([read_record(sent)])
    letters = DeadLetters(uri)
    (row,) = letters.list().to_pylist()
    assert (row["topic"], row["partition"], row["offset"]) == (PREDICTIONS, 1, 7)
    assert "bad headers" in row["reason"]
    assert letters.get(KafkaPosition(PREDICTIONS, 1, 7)).origin.value == value
    with pytest.raises(NotFound, match="1:8"):
        letters.get(KafkaPosition(PREDICTIONS, 1, 8))


def test_a_replayed_record_is_archived_though_later_ones_of_its_replica_are(uri: str) -> None:
    records = [read_record(prediction_message(prediction_rows(n, n), n)) for n in range(3)]
    LakeWriter(uri).append([records[0], dead(records[1]), records[2]])
    assert counts(uri).rows == 4
    letters = DeadLetters(uri)
    assert list(replay(letters, known)) == [Replayed(KafkaPosition(PREDICTIONS, 0, 1), rows=2)]
    assert counts(uri) == LakeCounts(6, 0, 0)
    assert letters.list().num_rows == 0
    assert list(replay(letters, known)) == []


def test_a_replay_brings_only_the_rows_that_were_not_packed_again_in_another_record(
    uri: str,
) -> None:
    letter = read_record(prediction_message(prediction_rows(0, 5), 0))
    again = read_record(prediction_message(prediction_rows(3, 8), 1))
    LakeWriter(uri).append([dead(letter), again])
    (replayed,) = replay(DeadLetters(uri), known)
    assert replayed.rows == 6
    assert counts(uri) == LakeCounts(18, 0, 0)


def test_a_replay_that_died_before_it_took_the_letter_out_writes_nothing_twice(uri: str) -> None:
    label = read_record(label_message(0, prediction_id=id_of_request(0), label=1))
    prediction = read_record(prediction_message(prediction_rows(0, 0), 0))
    letters = DeadLetters(uri)
    for record in (label, prediction):
        assert letters.replay(record) > 0  # type: ignore[arg-type]
        assert letters.replay(record) == 0  # type: ignore[arg-type]
    assert counts(uri) == LakeCounts(2, 0, 1)


def test_what_still_cannot_be_read_stays_a_dead_letter_with_its_reason(uri: str) -> None:
    rows = prediction_rows(0, 0)
    writer = LakeWriter(uri)
    unknown = read_record(prediction_message(rows, 0, model="price"))
    writer.append([dead(unknown), read_record(message(LABELS, b"{}", 1))])
    letters = DeadLetters(uri)
    found = list(replay(letters, known))
    assert [replayed.rows for replayed in found] == [0, 0]
    assert "prediction_id" in str(found[0].reason)
    assert "'price'" in str(found[1].reason)
    assert letters.list().num_rows == 2
    assert [r.rows for r in replay(letters, lambda model: True, [found[1].place])] == [2]


def test_an_archiver_that_writes_during_a_replay_loses_and_doubles_nothing(uri: str) -> None:
    writer, letters = LakeWriter(uri), DeadLetters(uri)
    records = [
        read_record(prediction_message(prediction_rows(*sequences), offset))
        for offset, sequences in enumerate([(0, 0), (1, 3), (3, 4), (5, 5)])
    ]
    writer.append([records[0], dead(records[1])])
    letters.list()
    writer.append([records[2]])  # letters' snapshot lacks it
    (replayed,) = replay(letters, known)
    writer.append([records[3]])  # writer's snapshot lacks the replay
    assert replayed.rows == 4
    assert counts(uri) == LakeCounts(12, 0, 0)
