"""Retries dead letters, after their model was deployed or an upgrade can read them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from driftloop_bus.port import Message
from driftloop_contracts.errors import Rejected
from driftloop_lake.dead_letters import DeadLetters, places
from driftloop_lake.records import DeadLetter, KafkaPosition, PredictionRecord
from driftloop_monitoring.archive.bus_records import read_record


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result for one dead letter: the number of `rows` archived, or why it remains."""

    place: KafkaPosition
    rows: int = 0
    reason: str | None = None


def replay(
    letters: DeadLetters,
    known: Callable[[str], bool],
    wanted: Iterable[KafkaPosition] | None = None,
) -> Iterable[Replayed]:
    """Retry the given dead letters (default: all), one by one. `known`: whether a model was ever
    deployed. Raises NotFound and RetryLater."""
    for place in places(letters.list()) if wanted is None else wanted:
        yield _replayed(letters, letters.get(place), known)


def _replayed(letters: DeadLetters, letter: DeadLetter, known: Callable[[str], bool]) -> Replayed:
    place = letter.origin.place
    record = read_record(_message(letter))
    if isinstance(record, PredictionRecord) and not known(record.headers.model):
        record = DeadLetter(letter.origin, f"no model {record.headers.model!r} was ever deployed")
    if isinstance(record, DeadLetter):
        return Replayed(place, reason=record.reason)
    try:
        return Replayed(place, letters.replay(record))
    except Rejected as error:
        return Replayed(place, reason=str(error))


def _message(letter: DeadLetter) -> Message:
    origin, place = letter.origin, letter.origin.place
    headers = [(name, value.encode()) for name, value in json.loads(origin.headers)]
    sent_ms = int(origin.at.timestamp() * 1000)
    return Message(place.topic, place.partition, place.offset, None, origin.value, headers, sent_ms)
