"""The records that the archiver passes to the lake, valid or not."""

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from driftloop_contracts.events import LabelEvent, PredictionHeaders

DEAD_LETTER_SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        # Complete, so that it can be replayed; the bus limits records to 8 MiB.
        pa.field("value", pa.binary(), nullable=False),
        # JSON: a list of [name, value], with bytes that are not UTF-8 replaced.
        pa.field("headers", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class KafkaPosition:
    """The position in Kafka at which a record was read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The original record, kept until it is archived: it becomes a dead letter if it does not fit.

    `at`: when the producer sent it; `headers`: JSON.
    """

    place: KafkaPosition
    at: datetime
    value: bytes
    headers: str


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    origin: Origin
    headers: PredictionHeaders
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class LabelRecord:
    origin: Origin
    labels: tuple[LabelEvent, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can never be archived, and the reason."""

    origin: Origin
    reason: str


LakeRecord = PredictionRecord | LabelRecord | DeadLetter
