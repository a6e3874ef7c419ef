"""MLflow's tables as an older and a newer MLflow leave them, and `driftloop migrate`."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from driftloop_cli.main import app
from driftloop_registry.mlflow_registry import MlflowRegistry

FORMER = """
INSERT INTO registered_models (name) VALUES ('kept');
DROP TABLE job_locks;
DROP TABLE scheduler_leases;
DROP INDEX index_jobs_status_lease_expires_at;
ALTER TABLE jobs DROP COLUMN executor_backend;
ALTER TABLE jobs DROP COLUMN lease_expires_at;
ALTER TABLE jobs DROP COLUMN status_message;
ALTER TABLE jobs DROP COLUMN progress;
ALTER TABLE jobs DROP COLUMN progress_updated_at;
ALTER TABLE jobs DROP COLUMN token_hash;
ALTER TABLE jobs DROP COLUMN scoped_permissions;
ALTER TABLE jobs DROP COLUMN next_attempt_at;
UPDATE alembic_version SET version_num = '75868b020152';
"""
"""What takes back MLflow's newest migration, `dc11669786a5`, and registers a model."""


@pytest.fixture
def uri(mlflow_database: Path, tmp_path: Path) -> str:
    """A database as the former MLflow left it."""
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.executescript(FORMER)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def migrate(tmp_path: Path) -> dict:
    words = ["migrate", "--state-dir", str(tmp_path), "--json"]
    return json.loads(CliRunner().invoke(app, words).stdout)


def test_a_migration_upgrades_older_tables_and_refuses_newer_ones(uri: str, tmp_path: Path) -> None:
    assert [migrate(tmp_path)["registry"]["before"] for _ in range(2)] == ["older", "current"]
    assert MlflowClient(uri, uri).get_registered_model("kept").name == "kept"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "written by a newer MLflow (schema 9999)" in migrate(tmp_path)["error"]


def test_a_server_has_tables_of_its_own(tmp_path: Path) -> None:
    assert MlflowRegistry("http://mlflow:5000", tmp_path).bring_up_to_date() is None
