"""Kill -9 of whatever carries predictions and labels, again and again, while clients ask."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from answered_load import answered_load
from fault_stack import MODEL, FaultStack, fault_stack, until
from lake_account import Outcome, Report, settled

VICTIMS = ("replica", "shipper", "archiver", "kafka")
PAUSE_S = (0.5, 4.0)
REPLICA_DEATHS = 10
LIVED_S = 8.0
"""Nothing younger is killed: it would have had nothing in its hands."""


def kill_in_turns(stack: FaultStack, kills: int, seed: int = 0) -> Counter[str]:
    """Kill what runs, each role as often as the others as far as it comes back in time; several may
    be away at once."""
    dice, done = random.Random(seed), Counter[str]()
    while done.total() < kills:
        threading.Event().wait(dice.uniform(*PAUSE_S))
        old = [role for role in VICTIMS if stack.age_s(role) > LIVED_S]
        if old:
            victim = min(old, key=lambda role: (done[role], dice.random()))
            done[victim] += stack.kill(victim) is not None
    return done


def run(stack: FaultStack, fault: str, kills: int, report: Report) -> None:
    began = time.monotonic()
    with answered_load(stack.inference, MODEL) as answered:
        done = kill_in_turns(stack, kills)
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome(fault, done, account, time.monotonic() - began))
    assert account.sound, account
    assert account.answered > kills
    assert account.missing_rows == 0


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_hundred_kills_lose_and_double_nothing(
    stack: FaultStack, report: Report, pytestconfig: pytest.Config
) -> None:
    run(stack, "kill -9 in turns", pytestconfig.getoption("kills", 100), report)


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_what_clients_ask_again_under_its_id_after_a_death_is_one_prediction(
    stack: FaultStack, report: Report
) -> None:
    """A replica may die between its record and its answer; then another one answers."""
    began, killed = time.monotonic(), Counter[str]()
    with answered_load(stack.inference, MODEL, clients=8, pause_s=0.0, own_ids=True) as answered:
        while killed["replica"] < REPLICA_DEATHS:
            until(lambda: stack.age_s("replica") > LIVED_S, "no replica lives")
            killed["replica"] += stack.kill("replica") is not None
    account = settled(stack.driftloop, MODEL, answered)
    report.add(
        Outcome("retries after a replica's death", killed, account, time.monotonic() - began)
    )
    assert account.sound, account
    assert answered.failures


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_few_kills_lose_and_double_nothing(tmp_path: Path, report: Report) -> None:
    """The others are at ingress `direct`, the default."""
    with fault_stack(tmp_path / "state", "serving.ingress=haproxy") as stack:
        run(stack, "kill -9, the short form", 6, report)
