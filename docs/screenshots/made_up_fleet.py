"""Records of a fleet of some weeks, made up for the pictures: one model's error rose, and the loop
repairs it; others are in the other states."""

from dataclasses import replace
from datetime import datetime, timedelta
from math import exp, sin

from console_records import (
    BASELINE,
    REFERENCE_SKETCH,
    alert,
    deploy,
    drift,
    monitor_state,
    running_retrain,
    running_rollout,
    waited,
    window,
)  # fmt: skip
from incident_cases import incident_of

from driftloop_contracts.incident import IncidentChange
from driftloop_contracts.judgement import Window
from driftloop_contracts.model import TrafficSplit
from driftloop_store import Store

HOURS = 72
ROSE = 30
"""How many hours ago the error of `loans` rose."""
MODELS = ("loans", "fraud", "churn", "prices", "offers", "tickets", "returns", "search-ranking")
STEADY = ("churn", "returns", "search-ranking")


def fill(store: Store, now: datetime) -> dict[str, str]:
    """Returns the paths of what the pictures show, by kind."""
    for name in MODELS:
        deploy(store, name, 1, *((2,) if name == "loans" else ()))
        if name == "tickets":
            continue
        for number in range(HOURS):
            one = _window(name, number, now)
            store.add_window(one)
            store.add_sketch(one, 1, _sketch(name, number))
        store.put_reference_sketch(name, 1, REFERENCE_SKETCH)
        moved = ("income",) if name in ("loans", "prices") else ()
        for number in range(0, 20, 2) if moved else ():
            store.add_finding(drift(name, number, "income", now))
        store.put_cursor(f"monitor/{name}", monitor_state(now, moved))
        rows = 41_010 + 9_000 * len(name)
        store.put_ledger("replica-1", name, 1, served=rows, acked=rows - 12, spooled=12, dropped={})
    for number in range(6):
        store.add_decision(waited("fraud", number))
    retrain = running_retrain(store, "offers")
    rollout = running_rollout(store, "loans")
    deployed = store.require_deployment("loans")
    store.put_deployment(replace(deployed, split=TrafficSplit(1, 2, rollout.weight)))
    message = "the error of fraud rose from 0.080 to 0.121"
    store.raise_alert(replace(alert("fraud", message=message), at=now - timedelta(minutes=40)))
    opened = incident_of(
        now - timedelta(minutes=40),
        id="fraud-performance",
        model="fraud",
        happened="The error of fraud rose from 0.080 to 0.121 since 03:12 UTC, in 4,100 labelled "
        "rows: the chance of this without a change is below 1 in 100,000.",
        next="driftloop waits for 2,000 fresh labels, then retrains; 900 are there, the rest is "
        "expected by 05:40 UTC.",
    )
    store.write_incidents([IncidentChange(opened, "opened")])
    return {
        "model": "loans", "rollouts": rollout.id, "retrains": retrain.id, "incidents": opened.id,
    }  # fmt: skip


def _window(name: str, number: int, now: datetime) -> Window:
    one = window(name, number, now)
    risen = 0.045 / (1 + exp((number - ROSE) / 2)) if name in ("loans", "fraud") else 0.0
    noise = 0.004 * sin(7 * number + len(name)) + 0.003 * sin(3.1 * number)
    error = BASELINE + noise + risen
    return replace(one, mean_loss=error, performance={**one.performance, "mean_loss": error})


def _sketch(name: str, number: int) -> dict[str, list[float | None]]:
    risen = 1 / (1 + exp((number - ROSE) / 2)) if name not in STEADY else 0.0
    shift, noise = 0.8 * risen, 0.05 * sin(number)
    income = [0.02 + 0.3 * risen, 0.0, *(value + shift + noise for value in (1.0, 2.0, 3.0))]
    baker = 0.5 - 0.1 * risen + noise / 5
    return {"in_income": income, "in_job": [0.02 + 0.1 * risen, 0.01, baker, 0.9 - baker]}
