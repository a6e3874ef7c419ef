"""The way from Kafka into the lake: killed between two commits, given everything twice, done by
two."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import pytest
from answered_load import answered_load
from fault_stack import MODEL, FaultStack, until
from lake_account import Outcome, Report, settled

from driftloop_bus.kafka_bus import KafkaBus
from driftloop_contracts.events import PREDICTIONS
from driftloop_settings import KafkaSettings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

COMMITS = 6
TURNS = 8


def test_an_archiver_killed_as_soon_as_it_committed_loses_and_doubles_nothing(
    stack: FaultStack, report: Report
) -> None:
    """Between the commit to a table and everything that follows it: the commits to the other
    tables, and that to `offsets`."""
    began, killed = time.monotonic(), Counter[str]()
    with answered_load(stack.inference, MODEL) as answered:
        logs = (f"predictions/{MODEL}", "labels", "offsets")
        for name in islice(cycle(logs), COMMITS):
            log = stack.state_dir / "lake" / name / "_delta_log"
            stack.await_pid("archiver")
            before = until(lambda log=log: commits(log), f"no commit in {log}")
            until(
                lambda log=log, b=before: commits(log) > b, f"no new commit in {log}", every_s=0.001
            )
            killed["archiver"] += stack.kill("archiver") is not None
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome("archiver killed at its commit", killed, account, time.monotonic() - began))
    assert account.sound, account


def test_records_that_come_twice_are_in_the_lake_once(stack: FaultStack, report: Report) -> None:
    began = time.monotonic()
    with answered_load(stack.inference, MODEL) as answered:
        until(lambda: len(answered.rows) > 500, "no answers")
    account = settled(stack.driftloop, MODEL, answered)
    archived = stack.state_dir / "logs" / "archiver.log"
    before = repeated(archived)
    rows = deliver_again(KafkaBus(stack.kafka, KafkaSettings()))
    until(lambda: repeated(archived) >= before + rows, "the repeated records were not read")
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome("every record sent again", Counter(), account, time.monotonic() - began))
    assert account.sound, account


def test_two_archivers_that_come_hang_and_die_lose_and_double_nothing(
    stack: FaultStack, report: Report
) -> None:
    began, killed, dice = time.monotonic(), Counter[str](), random.Random(0)
    port = stack.kafka.rpartition(":")[2]
    command = [sys.executable, "-m", "driftloop_cli", "role", "archiver"]
    command += ["--state-dir", str(stack.state_dir), "--set", f"kafka.port={port}"]
    log = stack.state_dir / "logs" / "archiver-2.log"

    def another() -> "subprocess.Popen[bytes]":
        """An archiver beside the stack's own, once it has its share."""
        before = shares_taken(log)
        with log.open("ab") as sink:
            started = subprocess.Popen(command, stdout=sink, stderr=sink)
        until(lambda: shares_taken(log) > before, "the second archiver never got a share")
        return started

    with answered_load(stack.inference, MODEL) as answered:
        second = another()
        for turn in range(TURNS):
            threading.Event().wait(dice.uniform(2, 6))
            if turn % 4 == 0:
                second.kill()
                second.wait()
                killed["archiver"] += 1
                second = another()
            elif turn % 4 == 1:
                killed["archiver"] += stack.kill("archiver") is not None
            elif turn % 4 == 2:
                # Until its partitions are another's.
                second.send_signal(signal.SIGSTOP)
                threading.Event().wait(14)
                second.send_signal(signal.SIGCONT)
            else:
                with stack.stopped("archiver"):
                    threading.Event().wait(14)
        second.terminate()
        assert second.wait(60) == 0
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome("two archivers", killed, account, time.monotonic() - began))
    assert account.sound, account


def shares_taken(log: Path) -> int:
    return log.read_text(errors="replace").count('"archiver.took"') if log.exists() else 0


def commits(log: Path) -> int:
    return sum(1 for path in log.glob("*.json"))


def repeated(archived: Path) -> int:
    """Rows that the archiver said it ignored as already there."""
    rows = 0
    for line in archived.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            rows += json.loads(line).get("repeated", 0)
    return rows


def deliver_again(bus: KafkaBus) -> int:
    """Send all records of the stack's own replicas once more; how many rows they have."""
    ends = bus.end_offsets(PREDICTIONS)
    rows, left = 0, sum(ends.values())
    with closing(bus.consumer()) as consumer, closing(bus.producer()) as producer:
        consumer.assign({(PREDICTIONS, number): 0 for number in ends})
        while left > 0:
            for message in consumer.poll(1.0):
                if message.offset >= ends[message.partition]:
                    continue
                left -= 1
                headers = dict(message.headers)
                # Other tests of this stack send records that are none.
                if headers.get("replica", b"").startswith(b"replica-"):
                    producer.send(
                        PREDICTIONS, message.value, key=message.key, headers=message.headers
                    )
                    rows += int(headers["rows"])
        producer.flush(60)
    return rows
