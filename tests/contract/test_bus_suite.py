"""What every bus promises: run on the fake and on a real broker."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from kafka.admin import ConfigResource

from driftloop_bus import Bus, Consumer, Message
from driftloop_bus.kafka_connection import BESIDE_VALUE_BYTES
from driftloop_bus.memory_bus import MemoryBus
from driftloop_bus.port import MAX_VALUE_BYTES, Member, Partition
from driftloop_contracts.errors import NotFound, Rejected, RetryLater

WAIT_S = 120.0


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def bus(request: pytest.FixtureRequest) -> Bus:
    if request.param == "memory":
        return MemoryBus()
    found: Bus = request.getfixturevalue("kafka_bus")
    return found


@pytest.fixture
def new_topic(bus: Bus) -> Callable[..., str]:
    def make(partitions: int = 2) -> str:
        name = f"suite.{uuid.uuid4()}"
        bus.ensure_topics([name], partitions=partitions, retention_hours=1)
        return name

    return make


@pytest.fixture
def consumer(bus: Bus) -> Iterator[Consumer]:
    with closing(bus.consumer()) as made:
        yield made


def sent(
    bus: Bus, topic: str, values: list[bytes], key: bytes = b"replica"
) -> list[tuple[int, int]]:
    with closing(bus.producer()) as producer:
        futures = [producer.send(topic, value, key=key) for value in values]
        producer.flush(WAIT_S)
        return [future.result(0) for future in futures]


def read(consumer: Consumer, count: int) -> list[Message]:
    found: list[Message] = []
    deadline = time.monotonic() + WAIT_S
    while len(found) < count and time.monotonic() < deadline:
        found += consumer.poll(1.0)
    return found


def everything(topic: str, partitions: int = 2) -> dict[tuple[str, int], int]:
    return {(topic, number): -1 for number in range(partitions)}


def test_a_topic_is_made_with_its_partitions_and_only_once(bus: Bus) -> None:
    topic = f"suite.{uuid.uuid4()}"
    bus.ensure_topics([topic], partitions=3, retention_hours=1)
    bus.ensure_topics([topic], partitions=5, retention_hours=1)
    assert bus.partitions(topic) == [0, 1, 2]


def test_an_unknown_topic_is_not_found(bus: Bus) -> None:
    with pytest.raises(NotFound, match="no-such-topic"):
        bus.partitions("no-such-topic")
    with pytest.raises(NotFound, match="no-such-topic"):
        bus.end_offsets("no-such-topic")


def test_a_record_comes_back_as_it_was_sent(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    before_ms = time.time() * 1000
    with closing(bus.producer()) as producer:
        headers = [("model", b"loans"), ("empty", b"")]
        future = producer.send(topic, b"\x00value\xff", key=b"key", headers=headers)
        partition, offset = future.result(WAIT_S)
    consumer.assign(everything(topic))
    (message,) = read(consumer, 1)
    assert message.timestamp_ms == pytest.approx(before_ms, abs=60_000)
    assert message == Message(
        topic, partition, offset, b"key", b"\x00value\xff", headers, message.timestamp_ms
    )


def test_a_record_may_have_no_key_and_no_value(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    with closing(bus.producer()) as producer:
        producer.send(topic, b"").result(WAIT_S)
    consumer.assign(everything(topic))
    (message,) = read(consumer, 1)
    assert (message.key, message.value, message.headers) == (None, b"", [])


def test_records_of_a_key_share_a_partition_and_keep_their_order(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(4)
    with closing(bus.producer()) as producer:
        for number in range(600):
            key = b"replica-%d" % (number % 7)
            producer.send(topic, b"%d" % number, key=key)
        producer.flush(WAIT_S)
    consumer.assign(everything(topic, 4))
    messages = read(consumer, 600)
    assert len(messages) == 600
    for number in range(7):
        mine = [m for m in messages if m.key == b"replica-%d" % number]
        assert len({m.partition for m in mine}) == 1
        assert [int(m.value) for m in mine] == list(range(number, 600, 7))


def test_offsets_count_from_zero_without_gaps(bus: Bus, new_topic: Callable[..., str]) -> None:
    topic = new_topic(1)
    assert bus.end_offsets(topic) == {0: 0}
    assert sent(bus, topic, [b"a", b"b"]) == [(0, 0), (0, 1)]
    assert sent(bus, topic, [b"c"]) == [(0, 2)]
    assert bus.end_offsets(topic) == {0: 3}


@pytest.mark.parametrize(("position", "values"), [(-1, b"abcd"), (0, b"abcd"), (2, b"cd")])
def test_reading_starts_where_the_reader_says(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str], position: int, values: bytes
) -> None:
    topic = new_topic(1)
    sent(bus, topic, [b"a", b"b", b"c", b"d"])
    consumer.assign({(topic, 0): position})
    assert b"".join(m.value for m in read(consumer, len(values))) == values


def test_reading_after_the_end_waits_for_the_next_record(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(1)
    sent(bus, topic, [b"a"])
    consumer.assign({(topic, 0): 1})
    assert consumer.poll(0.1) == []
    sent(bus, topic, [b"b"])
    assert [m.value for m in read(consumer, 1)] == [b"b"]


def test_a_position_that_does_not_exist_reads_from_the_earliest(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(1)
    sent(bus, topic, [b"a", b"b"])
    consumer.assign({(topic, 0): 1_000})
    assert [m.value for m in read(consumer, 2)] == [b"a", b"b"]


def test_a_reader_can_be_sent_back(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(1)
    sent(bus, topic, [b"a", b"b"])
    consumer.assign({(topic, 0): -1})
    assert len(read(consumer, 2)) == 2
    consumer.assign({(topic, 0): 1})
    assert [m.value for m in read(consumer, 1)] == [b"b"]


def test_readers_do_not_share_positions(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    sent(bus, topic, [b"a", b"b"])
    consumer.assign(everything(topic))
    with closing(bus.consumer()) as other:
        other.assign(everything(topic))
        assert [m.value for m in read(consumer, 2)] == [m.value for m in read(other, 2)]


def test_one_poll_gives_no_more_than_asked_for(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(1)
    sent(bus, topic, [b"%d" % n for n in range(20)])
    consumer.assign({(topic, 0): -1})
    found: list[Message] = []
    while len(found) < 20:
        some = consumer.poll(WAIT_S, max_messages=7)
        assert 0 < len(some) <= 7
        found += some
    assert [m.offset for m in found] == list(range(20))


def test_a_reader_of_nothing_finds_nothing(consumer: Consumer) -> None:
    assert consumer.poll(0.0) == []
    consumer.assign({})
    assert consumer.poll(0.0) == []


def test_the_largest_record_passes_and_a_larger_one_is_rejected(
    bus: Bus, consumer: Consumer, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(1)
    # Bytes that no codec makes smaller.
    largest = uuid.uuid4().bytes * (MAX_VALUE_BYTES // 16)
    with closing(bus.producer()) as producer:
        refused = producer.send(topic, largest + b"x")
        assert producer.send(topic, largest).result(WAIT_S) == (0, 0)
    with pytest.raises(Rejected, match="too large"):
        refused.result(WAIT_S)
    consumer.assign({(topic, 0): -1})
    assert [m.value == largest for m in read(consumer, 1)] == [True]


@pytest.fixture
def take_less(bus: Bus) -> Callable[[str, int], None]:
    """Has a topic take values up to so many bytes from now on."""
    if isinstance(bus, MemoryBus):
        return bus.set_max_value_bytes

    def lower(topic: str, limit: int) -> None:
        configs = {"max.message.bytes": str(limit + BESIDE_VALUE_BYTES)}
        with bus._admin() as admin:  # type: ignore[attr-defined]
            admin.alter_configs([ConfigResource("topic", topic, configs)])

    return lower


def test_a_topic_tells_the_largest_value_it_takes(
    bus: Bus, new_topic: Callable[..., str], take_less: Callable[[str, int], None]
) -> None:
    topic = new_topic()
    assert bus.max_value_bytes(topic) == MAX_VALUE_BYTES
    take_less(topic, 50_000)
    assert bus.max_value_bytes(topic) == 50_000
    with pytest.raises(NotFound, match="no-such-topic"):
        bus.max_value_bytes("no-such-topic")


def test_what_a_topic_refuses_breaks_the_producer_and_nothing_overtakes_it(
    bus: Bus,
    consumer: Consumer,
    new_topic: Callable[..., str],
    take_less: Callable[[str, int], None],
) -> None:
    topic = new_topic(1)
    take_less(topic, 50_000)
    large = b"".join(uuid.uuid4().bytes for _ in range(10_000))
    with closing(bus.producer()) as producer:
        assert producer.send(topic, b"before").result(WAIT_S) == (0, 0)
        assert not producer.broken
        behind = [producer.send(topic, value) for value in (large, b"behind", b"behind")]
        for future in behind:
            with pytest.raises(RetryLater, match="refuses"):
                future.result(WAIT_S)
        assert producer.broken
        with pytest.raises(RetryLater, match="refuses"):
            producer.send(topic, b"after").result(WAIT_S)
    assert sent(bus, topic, [b"again"]) == [(0, 1)]
    consumer.assign({(topic, 0): -1})
    assert [m.value for m in read(consumer, 2)] == [b"before", b"again"]


def test_small_records_go_together_only_as_far_as_the_topic_takes_them(
    bus: Bus,
    consumer: Consumer,
    new_topic: Callable[..., str],
    take_less: Callable[[str, int], None],
) -> None:
    topic = new_topic(1)
    take_less(topic, 20_000)
    values = [b"".join(uuid.uuid4().bytes for _ in range(300)) for _ in range(50)]
    with closing(bus.producer(bus.max_value_bytes(topic))) as producer:
        for future in [producer.send(topic, value) for value in values]:
            future.result(WAIT_S)
        assert (producer.broken, producer.too_large_for) == (False, None)
        large = producer.send(topic, b"".join(values))
        with pytest.raises(RetryLater, match="refuses"):
            large.result(WAIT_S)
        assert producer.too_large_for == topic
    consumer.assign({(topic, 0): -1})
    assert [m.value for m in read(consumer, 50)] == values


def test_records_wait_in_order_for_a_topic_that_is_not_there_yet(
    bus: Bus, consumer: Consumer
) -> None:
    topic = f"suite.{uuid.uuid4()}"
    with closing(bus.producer()) as producer:
        futures = [producer.send(topic, value, key=b"k") for value in (b"a", b"b")]
        with pytest.raises(RetryLater):
            producer.flush(0.1)
        bus.ensure_topics([topic], partitions=1, retention_hours=1)
        assert [future.result(WAIT_S) for future in futures] == [(0, 0), (0, 1)]


def test_a_closed_producer_takes_nothing(bus: Bus, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    producer = bus.producer()
    producer.close()
    with pytest.raises(RetryLater, match="closed"):
        producer.send(topic, b"a")


@pytest.fixture
def members(bus: Bus, new_topic: Callable[..., str]) -> Iterator[Callable[..., Member]]:
    """Makes members of one group that share a topic of four partitions (`members.topic`)."""
    topic, group = new_topic(4), f"group-{uuid.uuid4()}"
    with ExitStack() as stack:

        def make(instance: str | None = None) -> Member:
            return stack.enter_context(closing(bus.member(group, [topic], instance)))

        make.topic = topic  # type: ignore[attr-defined]
        yield make


class Reader:
    """A member with what it holds and what it read; it starts everything at its earliest."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.held: set[Partition] = set()
        self.values: list[bytes] = []

    def step(self) -> None:
        # Long enough for a join to end within one poll.
        self.values += [m.value for m in self.member.poll(1.0)]
        moved = self.member.moved()
        self.held = (self.held - moved.gone) | moved.came
        self.member.start(dict.fromkeys(moved.came, -1))


def step_until(what: Callable[[], bool], *readers: Reader) -> None:
    """The readers step side by side, as members in their own processes do: a member that joins
    waits for the others to join as well."""
    deadline = time.monotonic() + 2 * WAIT_S
    with ThreadPoolExecutor(len(readers)) as threads:
        while not what():
            assert time.monotonic() < deadline, [reader.held for reader in readers]
            for _ in threads.map(Reader.step, readers):
                pass


def test_members_share_the_partitions_and_take_over_what_one_leaves(
    members: Callable[..., Member],
) -> None:
    one = Reader(members())
    step_until(lambda: len(one.held) == 4, one)
    other = Reader(members())
    step_until(lambda: len(one.held) == len(other.held) == 2, one, other)
    assert not one.held & other.held
    one.member.close()
    step_until(lambda: len(other.held) == 4, other)


def test_a_member_reads_only_what_it_has_started(bus: Bus, members: Callable[..., Member]) -> None:
    topic: str = members.topic  # type: ignore[attr-defined]
    ((partition, offset), _) = sent(bus, topic, [b"a", b"b"])
    member = members()
    came: set[Partition] = set()
    deadline = time.monotonic() + WAIT_S
    while len(came) < 4 and time.monotonic() < deadline:
        assert member.poll(0.2) == []
        came |= member.moved().came
    assert member.poll(0.5) == []
    member.start({(topic, partition): offset + 1})
    found: list[Message] = []
    while not found and time.monotonic() < deadline:
        found += member.poll(0.5)
    assert [m.value for m in found] == [b"b"]


def test_everything_is_read_by_one_of_the_members(bus: Bus, members: Callable[..., Member]) -> None:
    topic: str = members.topic  # type: ignore[attr-defined]
    readers = [Reader(members()), Reader(members())]
    step_until(lambda: all(len(reader.held) == 2 for reader in readers), *readers)
    values = [b"%d" % number for number in range(40)]
    for value in values:
        sent(bus, topic, [value], key=value)
    before = [len(reader.values) for reader in readers]
    assert before == [0, 0]
    step_until(lambda: sum(len(r.values) for r in readers) >= 40, *readers)
    assert sorted(b for r in readers for b in r.values) == sorted(values)
    assert all(reader.values for reader in readers)


def test_who_comes_back_under_its_instance_gets_its_partitions_at_once(
    members: Callable[..., Member],
) -> None:
    killed = Reader(members("archiver-0"))
    step_until(lambda: len(killed.held) == 4, killed)
    # It is not closed: nobody tells the group that it is gone.
    started = time.monotonic()
    back = Reader(members("archiver-0"))
    step_until(lambda: len(back.held) == 4, back)
    assert time.monotonic() - started < 5
