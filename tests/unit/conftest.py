"""Fixtures of the unit suites."""

from pathlib import Path

import pytest
from onnx_graphs import write_graph


@pytest.fixture(scope="session")
def scaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph y = 2 · x over one FP32 column."""
    folder = tmp_path_factory.mktemp("scaler")
    write_graph(folder, 2.0)
    return folder
