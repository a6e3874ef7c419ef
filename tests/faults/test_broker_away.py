"""A broker that is away for a minute, in the two ways in which brokers are."""

import threading
import time
from collections import Counter

import pytest
from answered_load import answered_load
from fault_stack import MODEL, FaultStack
from lake_account import Outcome, Report, settled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

MINUTE_S = 60.0


def test_nothing_is_lost_while_the_broker_hangs_for_a_minute(
    stack: FaultStack, report: Report
) -> None:
    began = time.monotonic()
    with answered_load(stack.inference, MODEL) as answered:
        with stack.stopped("kafka"):
            before = len(answered.rows)
            threading.Event().wait(MINUTE_S)
            meanwhile = len(answered.rows) - before
        threading.Event().wait(5)
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome("broker hangs for a minute", Counter(), account, time.monotonic() - began))
    assert account.sound, account
    assert not account.failures
    assert meanwhile > 100


def test_nothing_is_lost_while_the_broker_dies_whenever_it_comes_back_for_a_minute(
    stack: FaultStack, report: Report
) -> None:
    began, killed = time.monotonic(), Counter[str]()
    with answered_load(stack.inference, MODEL) as answered:
        while time.monotonic() - began < MINUTE_S:
            killed["kafka"] += stack.kill("kafka") is not None
            threading.Event().wait(0.1)
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome("broker down for a minute", killed, account, time.monotonic() - began))
    assert account.sound, account
    assert not account.failures
