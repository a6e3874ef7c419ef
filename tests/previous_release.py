"""The state directory of a stack of the previous release (commit 7df744d), as a kill left it.

`fixtures/previous_release.tar.xz` was made by `fixtures/make_previous_release.py`; what must be in
it is in `fixtures/previous_release.json`: of 5,350 predicted and labelled rows the lake holds
5,250, Kafka 60 more and the spool 40 more of each. The stack's report is cut short, its logs are
left out.
"""

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "fixtures"
Expected = dict[str, Any]


def expected() -> Expected:
    """`ids` (ten rows each), `labels`, `in_lake`, the ids and states of records, the split."""
    found: Expected = json.loads((FOLDER / "previous_release.json").read_text())
    return found


def unpack(folder: Path) -> Path:
    """The state directory, moved to `folder`. A stack that is upgraded stays where it is; this one
    comes to another path and a later day, which its records name."""
    with tarfile.open(FOLDER / "previous_release.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    state = folder / "state"
    for name in ("store.db", "mlflow.db"):
        with closing(sqlite3.connect(state / name)) as database:
            _replace(database, expected()["home"], str(state))
            _replace(database, '"deadline_at": "2026-', '"deadline_at": "2126-')
            database.commit()
    return state


def _replace(database: sqlite3.Connection, old: str, new: str) -> None:
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for _, column, kind, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
            if kind.startswith(("VARCHAR", "TEXT", "JSON")):
                database.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)'
                    f' WHERE instr("{column}", ?)',
                    (old, new, old),
                )
