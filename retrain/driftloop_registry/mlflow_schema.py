"""MLflow's tables in a database, compared with those of the installed MLflow."""

from typing import Any

from driftloop_contracts.errors import Unavailable
from driftloop_store.schema import Schema

BACKENDS = ("sqlite", "postgresql", "mysql", "mssql")


def is_database(uri: str) -> bool:
    """Whether driftloop opens the tables itself; a server has them otherwise, and upgrades them."""
    return uri.startswith(BACKENDS)


def bring_up_to_date(uri: str) -> Schema:
    """Make MLflow's tables, or upgrade older ones as `mlflow db upgrade` does; returns what they
    were. Raises Unavailable if a newer MLflow has written them, and the driver's error if the
    database does not answer."""
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine_with_retry(uri)
    try:
        found = _schema(engine, uri)
        if found is Schema.MISSING:
            utils._initialize_tables(engine)
        elif found is Schema.OLDER:
            utils._upgrade_db(engine)
        return found
    finally:
        engine.dispose()


def _schema(engine: Any, uri: str) -> Schema:
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store.db import utils

    if utils._is_empty_database(engine):
        return Schema.MISSING
    present = utils._get_schema_version(engine)
    if present == utils._get_latest_schema_revision():
        return Schema.CURRENT
    try:
        ScriptDirectory.from_config(utils._get_alembic_config(uri)).get_revision(present)
    except CommandError:
        raise Unavailable(
            f"MLflow's tables were written by a newer MLflow (schema {present}); install the "
            "release of driftloop that wrote them, or restore a copy of the database"
        ) from None
    return Schema.OLDER
