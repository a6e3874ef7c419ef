from types import SimpleNamespace

import pytest

from driftloop_serving.replicas.autoscaling import LOAD, LoadMeter, Policy, wanted


@pytest.mark.parametrize(
    ("replicas", "loads", "expected"),
    [
        (1, [0.1], 1),
        (1, [0.6], 1),
        (1, [0.95], 2),
        (2, [0.9, 0.9], 3),
        (2, [0.3, 0.25], 1),
        (2, [0.5, 0.4], 2),
        (3, [0.0, 0.0, 0.0], 1),
    ],
)
def test_the_mean_load_is_brought_to_the_target(
    replicas: int, loads: list[float], expected: int
) -> None:
    told = {str(number): load for number, load in enumerate(loads)}
    assert wanted(replicas, told, target=0.6) == expected


def test_nothing_changes_while_no_replica_told_its_load() -> None:
    assert wanted(2, {}, target=0.6) == 2


@pytest.mark.parametrize("load", [0.55, 0.6, 0.65])
def test_a_load_near_the_target_changes_nothing(load: float) -> None:
    assert wanted(4, {str(n): load for n in range(4)}, target=0.6) == 4


def test_serve_gets_the_number_and_an_empty_state() -> None:
    context = SimpleNamespace(aggregated_metrics={LOAD: {"a": 1.0}}, target_num_replicas=1)
    assert Policy(target_load=0.6)(context) == (2, {})
    silent = SimpleNamespace(aggregated_metrics=None, target_num_replicas=1)
    assert Policy(target_load=0.6)(silent) == (1, {})


def test_the_load_is_what_was_used_since_the_last_look() -> None:
    now = {"busy": 10.0, "cpu": 20.0, "clock": 100.0}
    meter = LoadMeter(lambda: now["busy"], lambda: now["cpu"], lambda: now["clock"])
    now.update(busy=10.5, cpu=20.25, clock=101.0)
    assert meter.load() == pytest.approx(0.5)
    now.update(cpu=22.0, clock=102.0)
    assert meter.load() == pytest.approx(1.75)
    assert meter.load() == 0.0
