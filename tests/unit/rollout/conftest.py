from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rollout_world import MemoryLake, MemoryRegistry, World

from driftloop_settings import RolloutSettings, Settings
from driftloop_store.store import open_store


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Builds a world with the model deployed and 20 s of past traffic; give `seed`, `task`,
    rules. Without a shadow, a holdback and a limit to its work, unless the rules say so."""
    stores = []

    def make(seed: int = 0, task: str | None = "classification", **rules: object) -> World:
        store = open_store(f"sqlite:///{tmp_path / f'store{len(stores)}.db'}")
        stores.append(store)
        rules = {"shadow_share": 0.0, "holdback": 0.0, "shadow_cpu": 1e6, **rules}
        settings = Settings(state_dir=tmp_path, rollout=RolloutSettings(**rules))  # type: ignore[arg-type]
        world = World(store, settings, MemoryLake(), MemoryRegistry(), np.random.default_rng(seed))
        world.deploy(task)
        world.live(20)
        return world

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
