"""Fixtures of all suites: the real services that integration tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from postgres_server import PostgresServer, find_programs, postgres_server

from driftloop_bus import Bus, connect
from driftloop_contracts.loopback import exempt_loopback
from driftloop_settings import Settings

# Machines are shared and noisy: how long a case takes says nothing of the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

exempt_loopback(os.environ)  # the tests' own clients ask this machine's stacks, not a proxy


@pytest.fixture(scope="session")
def kafka_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A running single-node Apache Kafka, one per session and xdist worker, on a free port: the
    settings that reach it. Their state directory is the broker's; tests take topics of their
    own."""
    from driftloop_bus import local_kafka

    settings = Settings(state_dir=tmp_path_factory.mktemp("kafka"))
    settings = local_kafka.with_port(settings, 0)
    port = local_kafka.start(settings)["port"]
    yield local_kafka.with_port(settings, port)
    local_kafka.stop(settings)


@pytest.fixture
def kafka_bus(kafka_settings: Settings) -> Bus:
    """A bus on the session's broker."""
    return connect(kafka_settings)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL, one per session and xdist worker."""
    programs = find_programs()
    if programs is None:
        reason = "PostgreSQL is not installed (Debian and Ubuntu: apt-get install postgresql)"
        # Nobody notices a test that CI skips.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with postgres_server(programs) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The SQLAlchemy URL of a new, empty database."""
    return postgres.database()


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with MLflow's tables, to be copied: making them takes seconds."""
    from driftloop_registry.mlflow_registry import MlflowRegistry

    folder = tmp_path_factory.mktemp("mlflow")
    MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", folder / "registry").versions("none")
    return folder / "mlflow.db"
