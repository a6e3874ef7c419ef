"""Kill -9 of whatever carries predictions and labels, while clients ask."""

import time
from collections import Counter

import pytest
from answered_load import answered_load
from fault_stack import MODEL, FaultStack, until
from kills import LIVED_S, kills_are_survived
from lake_account import Outcome, Report, settled

REPLICA_DEATHS = 10


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_hundred_kills_lose_and_double_nothing(
    stack: FaultStack, report: Report, pytestconfig: pytest.Config
) -> None:
    kills_are_survived(stack, "kill -9 in turns", pytestconfig.getoption("kills", 100), report)


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
