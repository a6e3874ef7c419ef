"""A stack that the tests of a module share."""

import os
from collections.abc import Iterator

import pytest
from command_line import FREE_PORTS, Driftloop

ORIGIN = "https://app.example"
SETTINGS = ("lake.flush_seconds=0.5", "retrain.budget_s=0", f'control.cors_origins=["{ORIGIN}"]')


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driftloop]:
    """Stopped before the next module begins: two stacks would share two cores. Its commands have an
    environment that a stack of ours must not follow."""
    hostile = {
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
        "LC_ALL": "C",
    }
    without = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    driftloop = Driftloop(tmp_path_factory.mktemp("zustand ü"), without | hostile)
    settings = [word for setting in (*FREE_PORTS, *SETTINGS) for word in ("--set", setting)]
    try:
        driftloop("up", "--detach", *settings)
        yield driftloop
    finally:
        driftloop("down")
