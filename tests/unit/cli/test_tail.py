import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from lake_records import arrow_bytes, id_of_request, prediction_rows, time_of_request

from driftloop_bus.memory_bus import MemoryBus
from driftloop_cli.tail import follow
from driftloop_contracts.errors import Unavailable
from driftloop_contracts.events import LABELS, PREDICTIONS, PredictionHeaders


@pytest.fixture
def bus() -> MemoryBus:
    made = MemoryBus()
    made.ensure_topics((PREDICTIONS, LABELS), partitions=1, retention_hours=1)
    return made


def send(
    bus: MemoryBus, topic: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
) -> None:
    bus.producer().send(topic, value, headers=headers).result(10)


def predict(bus: MemoryBus, sequence: int, model: str = "loan") -> None:
    rows = prediction_rows(sequence, sequence)
    headers = PredictionHeaders(model, 1, "r1", sequence, sequence, rows.num_rows).encode()
    send(bus, PREDICTIONS, arrow_bytes(rows), headers)


def objects(lines: Iterator[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_each_row_of_the_model_is_one_line(bus: MemoryBus) -> None:
    predict(bus, 1)
    predict(bus, 2, model="other")
    send(bus, PREDICTIONS, b"no arrow")
    predict(bus, 3)
    found = objects(follow(bus, "loan", False, True, 4))
    assert [(row["prediction_id"], row["row"]) for row in found] == [
        (id_of_request(1), 0),
        (id_of_request(1), 1),
        (id_of_request(3), 0),
        (id_of_request(3), 1),
    ]
    assert found[0] == {
        "prediction_id": id_of_request(1),
        "row": 0,
        "version": 1,
        "arm": "stable",
        "predicted_at": time_of_request(1).isoformat().replace("+00:00", "Z"),
        "age": 0.0,
        "job": "baker",
        "label": 1,
        "probabilities": [0.25, 0.75],
        "replica": "r1",
        "sequence": 1,
        "latency_s": pytest.approx(0.01),
        "error": None,
        "routing_key_hash": None,
        "trace_id": None,
    }


def test_without_from_start_only_what_comes_is_shown(bus: MemoryBus) -> None:
    predict(bus, 1)
    lines = follow(bus, "loan", False, False, 1)
    predict(bus, 2)
    assert json.loads(next(lines))["prediction_id"] == id_of_request(2)


def test_labels_come_too_when_asked_for_and_each_line_says_what_it_is(bus: MemoryBus) -> None:
    predict(bus, 1)
    send(bus, LABELS, b'{"prediction_id": "p",\n "label": 1}')
    send(bus, LABELS, b"nonsense")
    found = objects(follow(bus, "loan", True, True, 4))
    assert sorted(item["event"] for item in found) == ["label"] * 2 + ["prediction"] * 2
    labels = [item for item in found if item["event"] == "label"]
    assert labels[0]["label"] == 1
    assert labels[1]["unreadable"] == "nonsense"


def test_without_a_broker_it_says_so() -> None:
    with pytest.raises(Unavailable):
        follow(MemoryBus(), "loan", False, True, None)
