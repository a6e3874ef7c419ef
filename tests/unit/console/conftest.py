"""A store with models in every state, filled once: it takes a second."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from console_records import fill

from driftloop_store import Store, open_store


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "store.db"
    store = open_store(f"sqlite:///{path}")
    assert len(list(fill(store))) == 6
    store.close()
    return path


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of its own for each test."""
    path = tmp_path / "store.db"
    path.write_bytes(filled.read_bytes())
    opened = open_store(f"sqlite:///{path}")
    yield opened
    opened.close()
