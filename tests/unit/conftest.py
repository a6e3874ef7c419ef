"""Fixtures of the unit suites."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx_graphs import write_graph

from driftloop_store import Store, open_store


@pytest.fixture(scope="session")
def scaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph y = 2 · x over one FP32 column."""
    folder = tmp_path_factory.mktemp("scaler")
    write_graph(folder, 2.0)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty one."""
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()
