"""A stack that the tests of a module share."""

from collections.abc import Iterator

import pytest
from command_line import FREE_PORTS, Driftloop


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driftloop]:
    """Stopped before the next module begins: two stacks would share two cores."""
    driftloop = Driftloop(tmp_path_factory.mktemp("stack"))
    ports = [word for port in FREE_PORTS for word in ("--set", port)]
    driftloop("up", "--detach", *ports, "--set", "lake.flush_seconds=0.5")
    yield driftloop
    driftloop("down")
