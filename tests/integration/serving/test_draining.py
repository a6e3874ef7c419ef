"""Nobody who asks notices that replicas are replaced or taken away."""

import os
from collections.abc import Iterator

import pytest
from serving_stack import Stack, eventually, running_stack
from steady_load import answered, steady_calls, steady_load

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(
    scope="module", params=["direct", pytest.param("haproxy", marks=pytest.mark.faults)]
)
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp(request.param)
    with running_stack(folder, f"serving.ingress={request.param}", "serving.replicas=2") as stack:
        yield stack


def changed(stack: Stack, *sets: str) -> None:
    """As on a Ray of one's own: the role is killed, the replicas go on, another role takes over."""
    stack.roles["serving"].kill()
    stack.roles["serving"].wait()
    stack.start("serving", *sets)


def test_a_redeploy_and_a_scale_down_cost_no_request(stack: Stack) -> None:
    before = set(stack.answering())
    with steady_load(stack) as (kept, opened), steady_calls(stack) as called:
        answered(100, kept, opened, called)
        # A setting that replicas read: both are replaced.
        changed(stack, "serving.replicas=2", "serving.body_limit_bytes=1000000")
        eventually(
            lambda: set(stack.answering()), lambda now: len(now) == 2 and not now & before, 240
        )
        answered(100, kept, opened, called)
        middle = set(stack.answering())
        # The scale alone: one is taken away, the other stays.
        changed(stack, "serving.replicas=1", "serving.body_limit_bytes=1000000")
        eventually(lambda: set(stack.answering()), lambda now: len(now) == 1 and now < middle, 60)
        eventually(lambda: alive(middle), lambda count: count == 1, 60)
        answered(100, kept, opened, called)
    assert (kept.failures, opened.failures, called.failures) == ({}, {}, {})


def alive(pids: set[int]) -> int:
    count = 0
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        count += 1
    return count
