"""A PostgreSQL that is away: what a store raises, what it logs, and how roles wait for it."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer
from sqlalchemy.exc import OperationalError, ProgrammingError
from structlog.testing import capture_logs

from driftloop_contracts.errors import RetryLater
from driftloop_store import StoreAway, await_store, open_store

pytestmark = pytest.mark.integration


@pytest.fixture
def server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """Running again after the test."""
    try:
        yield postgres
    finally:
        postgres.stop()
        postgres.start()


def test_a_store_that_is_away_is_to_be_tried_again(
    server: PostgresServer, postgres_url: str
) -> None:
    with closing(open_store(postgres_url)) as store:
        store.put_cursor("reader", {"row": 1})
        server.stop()
        for _ in range(2):
            with pytest.raises(StoreAway, match="the store does not answer now") as found:
                store.put_cursor("reader", {"row": 2})
            assert isinstance(found.value, RetryLater)
            assert "127.0.0.1" not in str(found.value)  # it may reach a client
        server.start()
        assert store.cursor("reader") == {"row": 1}
        store.put_cursor("reader", {"row": 2})
        assert store.cursor("reader") == {"row": 2}


def test_that_it_is_away_and_back_is_logged_once(server: PostgresServer, postgres_url: str) -> None:
    with closing(open_store(postgres_url)) as store, capture_logs() as logs:
        server.stop()
        for _ in range(3):
            with pytest.raises(StoreAway):
                store.deployments()
        server.start()
        for _ in range(3):
            store.deployments()
    assert [entry["event"] for entry in logs] == ["store.away", "store.back"]


def test_a_role_waits_for_its_store(server: PostgresServer, postgres_url: str) -> None:
    server.stop()
    with pytest.raises(StoreAway):
        open_store(postgres_url)
    stop = threading.Event()
    opened = []
    with capture_logs() as logs:
        waiting = threading.Thread(target=lambda: opened.append(await_store(postgres_url, stop)))
        waiting.start()
        server.start()
        waiting.join(60)
    (store,) = opened
    assert store is not None
    assert store.deployments() == []
    store.close()
    assert [entry["event"] for entry in logs] in ([], ["store.away", "store.back"])


def test_a_role_that_waits_can_be_stopped(server: PostgresServer, postgres_url: str) -> None:
    server.stop()
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    assert await_store(postgres_url, stop) is None
    timer.join()


def test_a_mistake_of_ours_is_none_of_the_database(postgres_url: str) -> None:
    """It is raised as it is, and not tried again for ever: on either database a missing table."""
    for url, expected in ((postgres_url, ProgrammingError), ("sqlite://", OperationalError)):
        with closing(open_store(url)) as store:
            with store._engine.begin() as connection:
                connection.execute(sa.text("DROP TABLE cursors"))
            with pytest.raises(expected):
                store.cursor("reader")
