"""What the soaks judge by: growth of memory, and the lake against what clients saw."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from language_clients import KINDS, Seen, draw
from soak import Growth, Memory, fit
from soak_language import Books, Captured, Rest, Run, compare, document, faults, in_flight, judged

COUNTS = {"dropped": 0, "unexplained": 0, "duplicates": 0, "labels": 0}
AT_REST = Rest(3.0, {"engine-1": 0.0, "replica-1": 0.0}, 0.001)


def memory(rng: np.random.Generator, mb_an_hour: float, dependence: float) -> list[Memory]:
    """An hour of a role of 200 MB: a line, and noise in which minutes depend on one another."""
    noise, found = 0.0, []
    for minute in range(60):
        noise = dependence * noise + rng.normal(0, 1)
        pss = 200 + mb_an_hour * minute / 60 + noise
        found.append(Memory(float(minute), pss + 50, pss))
    return found


def verdicts(mb_an_hour: float, dependence: float = 0.7) -> Counter[str]:
    rng = np.random.default_rng(1)
    return Counter(fit("r", memory(rng, mb_an_hour, dependence), 10.0).verdict for _ in range(400))


@pytest.mark.parametrize(("dependence", "share"), [(0.0, 0.05), (0.7, 0.09)])
def test_growth_at_the_limit_is_seldom_told_either_way(dependence: float, share: float) -> None:
    """2.5 % each side; 6 % where minutes depend strongly, which 50 of them do not show well
    enough."""
    found = verdicts(6.0, dependence)  # 3 % of 200 MB
    assert found["flat"] <= share * 400
    assert found["grows"] <= share * 400


def test_flat_memory_never_grows_and_a_leak_is_found() -> None:
    assert verdicts(0.0)["grows"] == 0
    assert verdicts(30.0)["grows"] >= 0.99 * 400


def test_a_role_that_was_there_for_four_minutes_is_not_judged() -> None:
    rng = np.random.default_rng(1)
    growths, short = judged({"long": memory(rng, 0, 0), "short": memory(rng, 0, 0)[:14]}, 10.0)
    assert ([growth.role for growth in growths], short) == (["long"], ["short"])


def rows(*found: tuple[str, int, str]) -> list[Captured]:
    return [Captured(*each) for each in found]


def seen() -> Seen:
    return Seen(complete={"whole": 1, "two": 2}, left={"left", "late"}, unseen=1)


WHOLE = (
    ("whole", 0, "stop"), ("two", 0, "stop"), ("two", 1, "length"), ("left", 0, "abort"),
    ("late", 0, "length"), ("unseen", 0, "abort"),
)  # fmt: skip


def test_all_that_clients_saw_is_in_the_lake_once() -> None:
    assert compare(seen(), rows(*WHOLE)) == Books(6, [], [], [], 1)


@pytest.mark.parametrize(
    ("captured", "field", "told"),
    [
        (WHOLE[1:], "missing", ["whole"]),
        (WHOLE[:2] + WHOLE[3:], "missing", ["two"]),
        (WHOLE[:3] + WHOLE[4:], "missing", ["left"]),
        ((*WHOLE, WHOLE[0]), "twice", ["whole"]),
        ((*WHOLE, ("two", 2, "stop")), "twice", ["two"]),
        ((*WHOLE, ("left", 1, "abort")), "twice", ["left"]),
        ((*WHOLE, WHOLE[5]), "twice", ["unseen"]),
        ((("whole", 0, "abort"), *WHOLE[1:]), "odd", ["whole"]),
        ((*WHOLE[:3], ("left", 0, "error"), *WHOLE[4:]), "odd", ["left"]),
        ((*WHOLE[:2], ("two", 0, "stop"), *WHOLE[3:]), "missing", ["two"]),
    ],
)
def test_what_is_wrong_in_the_lake_is_named(
    captured: tuple[tuple[str, int, str], ...], field: str, told: list[str]
) -> None:
    assert getattr(compare(seen(), rows(*captured)), field) == told


def run(**changed: object) -> Run:
    given = {"seen": seen(), "rest": AT_REST, "counts": COUNTS, "books": Books(6, [], [], [], 1)}
    return Run(**{**given, **changed})  # type: ignore[arg-type]


def test_a_run_without_faults_has_none() -> None:
    assert faults(run(), []) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rest": Rest(60.0, {"engine-1": 2.0}, 0.001)}, "2 calls leaked"),
        ({"rest": Rest(60.0, {"engine-1": 0.0}, 0.4)}, "not at rest"),
        ({"rest": Rest(60.0, {"replica-1": 0.0}, 0.0)}, "not at rest"),
        ({"books": Books(6, [], [], [], 2)}, "2 answers that no client knows, of 1"),
        ({"counts": {**COUNTS, "dropped": 3}}, "3 rows were dropped"),
        ({"counts": {**COUNTS, "labels": 1}}, "1 labels of 0 ratings"),
        ({"restarts": {"monitor": 1}}, "monitor"),
    ],
)
def test_a_fault_is_said(changed: dict[str, object], told: str) -> None:
    assert any(told in fault for fault in faults(run(**changed), []))


def test_memory_that_grows_is_a_fault() -> None:
    leak = Growth("engine", 100, 200, 300, 100.0, 90.0, 110.0)
    assert faults(run(), [leak]) == ["engine grows"]


def test_calls_under_way_are_read_by_replica() -> None:
    text = (
        "# TYPE driftloop_requests_in_flight gauge\n"
        'driftloop_requests_in_flight{replica="engine-7"} 2.0\n'
        'driftloop_requests_in_flight{replica="replica-8"} 0.0\n'
        'driftloop_busy_seconds_total{replica="replica-8"} 5.0\n'
    )
    assert in_flight(text) == {"engine-7": 2.0, "replica-8": 0.0}


def test_the_same_seed_draws_the_same_calls_of_all_kinds_with_mostly_new_prompts() -> None:
    first, second = random.Random(1), random.Random(1)
    calls = [draw(first, "m") for _ in range(1_000)]
    assert calls == [draw(second, "m") for _ in range(1_000)]
    assert {call.kind for call in calls} == set(KINDS)
    prompts = {
        str(c.body.get("messages", c.body.get("prompt", c.body.get("input")))) for c in calls
    }
    assert 700 < len(prompts) < 1_000


def test_all_that_was_seen_can_be_written() -> None:
    books = compare(seen(), rows(*WHOLE))
    run = Run(seen(), {"engine": [Memory(0.0, 2.0, 1.0)]}, AT_REST, COUNTS, {}, books)
    written = json.loads(document(run, ["one"]))
    assert written["seen"]["left"] == ["late", "left"]
    assert (written["faults"], written["series"]["engine"][0]["pss_mb"]) == (["one"], 1.0)
