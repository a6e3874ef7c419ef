"""A page as values: what a builder makes of records, before it becomes HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driftloop_console.tables import Table


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page that is refreshed by itself. template: in `templates/`, gets `data`."""

    id: str
    title: str
    template: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """nav: the entry of the navigation that it belongs to. about: the models whose changes concern
    it; None: all. ranged: whether its URL takes a time range."""

    title: str
    nav: str
    sections: tuple[Section, ...]
    about: frozenset[str] | None = None
    ranged: bool = False

    @property
    def tables(self) -> dict[str, Table]:
        found = (section.data.get("table") for section in self.sections)
        return {table.name: table for table in found if isinstance(table, Table)}


def table_section(title: str, table: Table, query: Mapping[str, str], note: str = "") -> Section:
    data = {"table": table.asked(query), "note": note}
    return Section(f"table-{table.name}", title, "table.html", data)


def facts_section(id_: str, title: str, facts: Mapping[str, Any]) -> Section:
    """facts: name → a text, a number, or a `Link`; None is left out."""
    kept = {name: value for name, value in facts.items() if value not in (None, "")}
    return Section(id_, title, "facts.html", {"facts": kept})


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    href: str
