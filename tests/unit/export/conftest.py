"""Real rows for exports."""

from pathlib import Path

import pytest
from export_rows import Rows, rows_of

from driftloop_demo.data_set import FILE

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="session")
def loans() -> Rows:
    """Two classes: 0 and 1."""
    return rows_of(FILE, "repaid")


@pytest.fixture(scope="session")
def cards() -> Rows:
    """Three classes, as texts."""
    return rows_of(FIXTURES / "credit_card.parquet", "card")


@pytest.fixture(scope="session")
def prices() -> Rows:
    """A value."""
    return rows_of(FIXTURES / "car_price.parquet", "price")
