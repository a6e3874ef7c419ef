import time

from driftloop_rollout.machine_load import MachineLoad


def test_a_core_that_computes_makes_the_machine_busy() -> None:
    load = MachineLoad()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert 0 < load.busy() <= 1
