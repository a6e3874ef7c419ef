"""The number of replicas follows the load of those that run."""

from pathlib import Path

import pytest
from serving_stack import eventually, running_stack
from steady_load import steady_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_load_brings_a_second_replica_which_leaves_when_it_is_over(tmp_path: Path) -> None:
    scale = {"max_replicas": 2, "target_load": 0.15, "scale_up_after_s": 1, "scale_down_after_s": 3}
    sets = [f"serving.{key}={value}" for key, value in scale.items()]
    with running_stack(tmp_path, "serving.ingress=direct", *sets) as stack:
        assert len(stack.answering()) == 1
        with steady_load(stack, keeping=6) as (kept, _):
            eventually(stack.answering, lambda pids: len(pids) == 2, 120)
        eventually(stack.answering, lambda pids: len(pids) == 1, 120)
        assert kept.failures == {}
