"""Queries of the page Data: limits of rows, bytes, memory and time, and nothing but reading."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lake_records import prediction_message, prediction_rows

from driftloop_contracts.errors import NotFound, Rejected, RetryLater
from driftloop_lake.bounded_query import BoundedQueries, QueryLimits
from driftloop_lake.query_child import answer
from driftloop_lake.view_columns import view_columns
from driftloop_lake.views import open_views
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

ENDLESS = "SELECT count(*) FROM range(3000000) a, range(3000000) b WHERE a.range + b.range < 0"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("lake"))
    rows = prediction_rows(0, 24, rows=1)
    LakeWriter(uri).append([read_record(prediction_message(rows, 1, model="loan"))])
    return uri


def asked(lake: str, folder: Path, sql: str, **limits: int) -> tuple[dict[str, Any], pa.Table]:
    file = folder / "answer.arrow"
    usual = {"seconds": 20.0, "rows": 10, "bytes": 1 << 20, "memory_mb": 1_024, "disk_mb": 16}
    order = {"lake": lake, "model": "loan", "output": None, "sql": sql, "answer": str(file)}
    reply = answer({**order, **usual, **limits})
    with pa.OSFile(str(file)) as source:
        return reply, pa.ipc.open_stream(source).read_all()


def test_the_first_rows_come_with_the_versions_that_were_read(lake: str, tmp_path: Path) -> None:
    reply, rows = asked(lake, tmp_path, "SELECT row, row FROM predictions")
    assert (rows.num_rows, rows.column_names, reply["more"]) == (10, ["row", "row_1"], True)
    assert reply["predictions"] >= 1
    reply, rows = asked(lake, tmp_path, "SELECT * FROM predictions", rows=100)
    assert (rows.num_rows, reply["more"]) == (25, False)


def test_large_rows_are_left_out(lake: str, tmp_path: Path) -> None:
    wide = "SELECT repeat('x', 400000) AS text FROM range(10)"
    reply, rows = asked(lake, tmp_path, wide)
    assert (rows.num_rows, reply["more"]) == (0, True)


REFUSED = (
    "DROP VIEW predictions",
    "COPY (SELECT 1) TO 'stolen.csv'",
    "ATTACH 'store.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '100GB'",
    "SELECT 1; SELECT 2",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM sqlite_scan('store.db', 'deployments')",
    "PRAGMA database_list",
    "SELECT nothing FROM predictions",
    "",
)


def test_what_is_not_one_select_over_the_views_is_refused(lake: str) -> None:
    views = open_views(lake, "loan")
    for sql in REFUSED:
        with pytest.raises(Rejected, match="query: "):
            list(views.ask(sql))


def test_the_columns_of_the_views_are_listed_as_the_views_have_them(lake: str) -> None:
    views, listed = open_views(lake, "loan"), view_columns(lake, "loan")
    assert set(listed) == {"predictions", "labels", "labelled", "shadows"}
    for view, columns in listed.items():
        described = [
            row["column_name"] for b in views.ask(f"DESCRIBE {view}") for row in b.to_pylist()
        ]
        assert set(described) == set(columns), view
    with pytest.raises(NotFound):
        view_columns(lake, "unknown")


def test_a_query_runs_in_a_process_that_is_ended_at_its_limits(lake: str) -> None:
    queries = BoundedQueries(lake, QueryLimits(seconds=300.0, rows=5))
    found = queries.ask("loan", "SELECT row FROM predictions", None)
    assert (found.rows.num_rows, found.more) == (5, True)
    with pytest.raises(Rejected, match=r"stopped after 0\.3 s"):
        BoundedQueries(lake, QueryLimits(seconds=0.3)).ask("loan", ENDLESS, None)
    with pytest.raises(Rejected, match="more than 20 MiB of memory"):
        BoundedQueries(lake, QueryLimits(memory_mb=20)).ask("loan", ENDLESS, None)
    with pytest.raises(NotFound, match="no prediction of 'other'"):
        queries.ask("other", "SELECT 1", None)


def test_more_queries_at_once_than_allowed_are_asked_to_wait(lake: str) -> None:
    with pytest.raises(RetryLater, match="0 queries are running already"):
        BoundedQueries(lake, QueryLimits(at_once=0)).ask("loan", "SELECT 1", None)
