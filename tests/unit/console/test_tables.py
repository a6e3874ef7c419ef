"""Tables by URL, time ranges by URL, and the numbers of charts."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest

from driftloop_console import words
from driftloop_console.charts import e_values, mean_interval
from driftloop_console.tables import SHOWN_ROWS, Column, Table
from driftloop_console.time_range import time_range
from driftloop_contracts.errors import Rejected

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
COLUMNS = (Column("name", "Name"), Column("error", "Error", "number"))
ROWS = ({"name": "b", "error": None}, {"name": "a", "error": 2.0}, {"name": "c", "error": 10.0})
TABLE = Table("t", COLUMNS, ROWS, "nothing")


def names(table: Table) -> str:
    return "".join(row["name"] for row in table.rows)


def test_a_table_is_sorted_by_its_url_and_unknown_values_are_last() -> None:
    assert names(TABLE) == "bac"
    assert names(TABLE.asked({"sort_t": "error"})) == "acb"
    assert names(TABLE.asked({"sort_t": "-error"})) == "cab"
    assert names(TABLE.asked({"sort_other": "-error"})) == "bac"


@pytest.mark.parametrize("query", [{"sort_t": "nope"}, {"page_t": "-1"}, {"page_t": "x"}])
def test_what_a_table_lacks_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Rejected, match=f"{next(iter(query))}:"):
        TABLE.asked(query)


def test_long_tables_have_pages_and_are_exported_whole() -> None:
    rows = [{"name": str(n), "error": n} for n in range(SHOWN_ROWS + 5)]
    second = Table("t", COLUMNS, rows, "").asked({"page_t": "2"})
    assert (second.pages, len(second.shown), len(second.records())) == (2, 5, SHOWN_ROWS + 5)


def test_an_export_has_no_formula_for_a_spreadsheet() -> None:
    rows = ({"name": '=HYPERLINK("http://x")', "error": -1.5}, {"name": 'a "b",\nc', "error": None})
    table = Table("t", COLUMNS, rows, "")
    read = list(csv.DictReader(io.StringIO(table.to_csv(), newline="")))
    assert read[0] == {"name": '\'=HYPERLINK("http://x")', "error": "-1.5"}
    assert read[1] == {"name": 'a "b",\nc', "error": ""}
    assert json.loads(table.to_json())[0] == rows[0]


def test_a_time_range_is_the_last_hours_or_two_times() -> None:
    assert time_range({"last": "24h"}, NOW).since == datetime(2026, 11, 28, 12, tzinfo=UTC)
    given = time_range({"from": "2026-11-01T00:00:00+01:00", "to": "2026-11-02"}, NOW)
    assert given.since == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert given.until == datetime(2026, 11, 2, tzinfo=UTC)
    assert time_range({}, NOW).since is None


@pytest.mark.parametrize(
    "query", [{"last": "h"}, {"last": "-3h"}, {"last": "3y"}, {"last": "99999d"}, {"from": "soon"}]
)
def test_what_is_no_time_range_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Rejected, match="write a"):
        time_range(query, NOW)


def test_the_interval_of_a_mean_holds_it_and_shrinks() -> None:
    few, many = mean_interval(0.1, 50), mean_interval(0.1, 5_000)
    assert few == pytest.approx((0.0435, 0.2136), abs=1e-4)  # Wilson's, of 5 in 50
    assert few[0] < many[0] < 0.1 < many[1] < few[1]
    assert mean_interval(0.0, 10)[0] == 0.0


def test_e_values_that_no_number_holds_are_bounded() -> None:
    assert e_values([0.0, None, 5_000.0]) == (1.0, None, pytest.approx(5.1e299, rel=0.1))


def test_numbers_as_people_read_them() -> None:
    assert words.share(0.05) == "5 %"
    assert words.time("2026-11-29T12:00:00+01:00") == "2026-11-29 11:00:00 UTC"
    assert words.clip("x" * 500).endswith("x…")
