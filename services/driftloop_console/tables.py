"""Tables of the pages: sortable by the URL, and exported as CSV or JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from driftloop_contracts.errors import Rejected, listed, shown

Row = Mapping[str, Any]
Kind = Literal["text", "sentence", "number", "count", "share", "time", "state", "seconds"]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins so for a formula."""
SHOWN_ROWS = 100


@dataclass(frozen=True, slots=True)
class Column:
    """href: the page that a row's cell leads to."""

    key: str
    label: str
    kind: Kind = "text"
    href: Callable[[Row], str | None] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """name: in URLs. rows: by the columns' keys, in the order in which they are shown first. empty:
    what to do if there are none. sort: the column's key, "-" before it for descending."""

    name: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    empty: str
    sort: str = ""
    page: int = 1

    def asked(self, query: Mapping[str, str]) -> "Table":
        """As the URL wants it: `sort_NAME=-column`, `page_NAME=2`. Raises Rejected for an unknown
        column or page."""
        sort, page = query.get(f"sort_{self.name}", ""), query.get(f"page_{self.name}", "1")
        if not page.isdecimal() or not 0 < int(page) < 1_000_000:
            raise Rejected(f"page_{self.name}: {shown(page)} is not the number of a page")
        return replace(self.sorted(sort) if sort else self, page=int(page))

    def sorted(self, sort: str) -> "Table":
        key = sort.removeprefix("-")
        if key not in (column.key for column in self.columns):
            known = listed(column.key for column in self.columns)
            raise Rejected(f"sort_{self.name}: there is no column {shown(key)}; there are {known}")
        present = [row for row in self.rows if row.get(key) is not None]
        absent = [row for row in self.rows if row.get(key) is None]
        present.sort(key=lambda row: _order(row[key]), reverse=sort.startswith("-"))
        return replace(self, rows=(*present, *absent), sort=sort)

    @property
    def pages(self) -> int:
        return max(1, -(-len(self.rows) // SHOWN_ROWS))

    @property
    def shown(self) -> Sequence[Row]:
        return self.rows[(self.page - 1) * SHOWN_ROWS : self.page * SHOWN_ROWS]

    def records(self) -> list[dict[str, Any]]:
        return [{column.key: row.get(column.key) for column in self.columns} for row in self.rows]

    def to_csv(self) -> str:
        """RFC 4180, with the keys as its head."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([column.key for column in self.columns])
        for record in self.records():
            writer.writerow([_cell(value) for value in record.values()])
        return text.getvalue()

    def to_json(self) -> str:
        return json.dumps(self.records(), default=str)


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _order(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, str(value))
