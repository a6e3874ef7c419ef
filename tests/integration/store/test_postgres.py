"""The store on a running PostgreSQL."""

import pytest

from driftloop_store import open_store

pytestmark = pytest.mark.integration


def test_a_store_on_postgresql_is_made_and_opened_again(postgres_url: str) -> None:
    store = open_store(postgres_url)
    store.put_cursor("reader", {"row": 1})
    store.close()

    store = open_store(postgres_url)
    assert store.cursor("reader") == {"row": 1}
    store.close()
