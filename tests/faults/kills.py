"""Kill -9 of whatever carries predictions and labels, again and again, while clients ask."""

import random
import threading
import time
from collections import Counter

from answered_load import answered_load
from fault_stack import MODEL, FaultStack
from lake_account import Outcome, Report, settled

VICTIMS = ("replica", "shipper", "archiver", "kafka")
PAUSE_S = (0.5, 4.0)
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


def kills_are_survived(stack: FaultStack, fault: str, kills: int, report: Report) -> None:
    began = time.monotonic()
    with answered_load(stack.inference, MODEL) as answered:
        done = kill_in_turns(stack, kills)
    account = settled(stack.driftloop, MODEL, answered)
    report.add(Outcome(fault, done, account, time.monotonic() - began))
    assert account.sound, account
    assert account.answered > kills
    assert account.missing_rows == 0
