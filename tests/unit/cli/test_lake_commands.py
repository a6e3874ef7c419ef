import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from lake_records import (
    id_of_request,
    label_message,
    prediction_message,
    prediction_rows,
    time_of_request,
)
from typer.testing import CliRunner, Result

from driftloop_cli.main import app
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

runner = CliRunner()
RECEIVED = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with ten requests of `loan`, of two rows each, one of them labelled."""
    folder = tmp_path_factory.mktemp("state")
    writer = LakeWriter(str(folder / "lake"))
    label = label_message(
        0, prediction_id=id_of_request(3), row=1, label=1, received_at=RECEIVED.isoformat()
    )
    rows = prediction_rows(0, 9)
    writer.append([read_record(prediction_message(rows, 0)), read_record(label)])
    return folder


def run(state: Path, *words: str) -> Result:
    return runner.invoke(app, [words[0], *words[1:], "--state-dir", str(state)])


def answer(state: Path, *words: str) -> Any:
    result = run(state, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_query_answers_with_an_array_of_objects(state: Path) -> None:
    sql = "SELECT prediction_id, row, version, arm, predicted_at, age, label, value FROM labelled"
    assert answer(state, "query", "loan", sql) == [
        {
            "prediction_id": id_of_request(3),
            "row": 1,
            "version": 1,
            "arm": "stable",
            "predicted_at": time_of_request(3).isoformat().replace("+00:00", "Z"),
            "age": 1.0,
            "label": 1,
            "value": 1.0,
        }
    ]


def test_values_that_json_lacks_are_written_in_their_nearest_form(state: Path) -> None:
    sql = """SELECT 'NaN'::DOUBLE AS nan, 1.25 AS decimal, 170141183460469231731687303715884105727
        AS huge, DATE '2026-01-02' AS day, [1, NULL] AS list, 'a'::BLOB AS bytes, sum(row) AS n
        FROM predictions"""
    assert answer(state, "query", "loan", sql) == [
        {
            "nan": None,
            "decimal": 1.25,
            "huge": "170141183460469231731687303715884105727",
            "day": "2026-01-02",
            "list": [1, None],
            "bytes": "a",
            "n": 10,
        }
    ]


def test_no_rows_are_an_empty_array(state: Path) -> None:
    assert answer(state, "query", "loan", "SELECT * FROM labels WHERE row = 7") == []


def test_a_query_is_as_of_a_time(state: Path) -> None:
    sql = "SELECT (SELECT count(*) FROM predictions) AS p, (SELECT count(*) FROM labels) AS l"
    early = time_of_request(4).isoformat()
    assert answer(state, "query", "loan", sql, "--at", early) == [{"p": 10, "l": 0}]
    assert answer(state, "query", "loan", sql, "--at", RECEIVED.isoformat()) == [{"p": 20, "l": 1}]


def test_a_table_shows_the_first_rows_and_says_that_there_are_more(state: Path) -> None:
    result = run(state, "query", "loan", "SELECT row AS r, error FROM predictions", "--limit", "3")
    assert result.stdout.splitlines()[0].split() == ["r", "error"]
    assert len(result.stdout.splitlines()) == 4
    assert "the first 3 rows" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("query", "loan", "DELETE FROM predictions"), "one SELECT"),
        (("query", "loan", "SELECT nope FROM labels"), "nope"),
        (("query", "other", "SELECT 1"), "no prediction of 'other'"),
        (("query", "loan", "SELECT 1", "--at", "yesterday"), "not 'yesterday'"),
        (("query", "loan", "SELECT 1", "--version", "77"), "no version 77"),
        (("query", "loan", "SELECT 1", "--version", "x"), "version 'x'"),
        (("export", "loan", "--out", "x.json"), "parquet or csv"),
        (("labels", "other"), "no prediction of 'other'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    state: Path, words: tuple[str, ...], reason: str
) -> None:
    result = run(state, *words, "--json")
    assert result.exit_code == 1
    assert reason in json.loads(result.stdout)["error"]


def test_reading_makes_no_store(state: Path) -> None:
    answer(state, "query", "loan", "SELECT 1")
    assert [path.name for path in state.iterdir()] == ["lake"]


def test_an_export_has_all_rows_and_their_types(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    written = answer(state, "export", "loan", "--out", str(path))
    table = pq.read_table(path)
    assert written["rows"] == table.num_rows == 20
    assert table.column("predicted_at").to_pylist().count(time_of_request(3)) == 2
    assert table.column("probabilities")[0].as_py() == [0.25, 0.75]
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_is_bounded_by_times_and_may_be_csv(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    bounds = ["--from", time_of_request(2).isoformat(), "--to", time_of_request(4).isoformat()]
    assert answer(state, "export", "loan", "--out", str(path), *bounds)["rows"] == 4
    answer(state, "export", "loan", "--format", "csv", "--out", str(path), "--labelled", *bounds)
    (row,) = csv.DictReader(path.open())
    assert (row["prediction_id"], row["value"], row["probabilities"]) == (
        id_of_request(3),
        "1",
        "[0.25, 0.75]",
    )


def test_labels_are_counted_by_version(state: Path) -> None:
    document = answer(state, "labels", "loan")
    (version,) = document["versions"]
    assert (version["version"], version["predictions"], version["labelled"]) == (1, 20, 1)
    assert version["delay_p50_s"] > 40_000
    day = next(cohort for cohort in version["by_age"] if cohort["age_s"] == 86_400)
    assert (day["predictions"], day["labelled"], day["coverage"]) == (20, 1, 0.05)
    assert "v1" in run(state, "labels", "loan").stderr


def test_labels_that_cannot_be_judged_are_told(tmp_path: Path) -> None:
    writer = LakeWriter(str(tmp_path / "lake"))
    label = label_message(
        0, prediction_id=id_of_request(3), label="yes", received_at=RECEIVED.isoformat()
    )
    rows = prediction_rows(0, 9)
    writer.append([read_record(prediction_message(rows, 0)), read_record(label)])
    assert answer(tmp_path, "labels", "loan")["versions"][0]["other_kind"] == 1
    assert "not judged" in " ".join(run(tmp_path, "labels", "loan").stderr.split())
