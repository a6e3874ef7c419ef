import time

from driftloop_rollout.machine_load import MachineLoad


def test_a_core_that_computes_makes_the_machine_busy() -> None:
    load = MachineLoad()
    until = time.process_time() + 0.6
    while time.process_time() < until:
        pass
    busy = load.busy()
    assert 0 < busy <= 1
    assert load.busy() == busy  # the next rollout of a tick is told the same
