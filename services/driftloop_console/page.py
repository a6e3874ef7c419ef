"""A page as values: what a builder makes of records, before it becomes HTML."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from driftloop_console.tables import Table
from driftloop_contracts.errors import DriftloopError, NotFound, shown


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page that is refreshed by itself. template: in `templates/`, gets `data`. later:
    makes the section; the browser asks for it once the page is open, since it takes long."""

    id: str
    title: str
    template: str
    data: Mapping[str, Any] = field(default_factory=dict)
    later: Callable[[], "Section"] | None = None

    def made(self) -> "Section":
        """Raises what `later` raises."""
        return self if self.later is None else self.later()


@dataclass(frozen=True, slots=True)
class Page:
    """nav: the entry of the navigation that it belongs to. about: the models whose changes concern
    it; None: all. ranged: whether its URL takes a time range. live: whether it changes while it is
    open."""

    title: str
    nav: str
    sections: tuple[Section, ...]
    about: frozenset[str] | None = None
    ranged: bool = False
    live: bool = True

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of its tables."""
        ids = (section.id for section in self.sections)
        return tuple(id_.removeprefix(TABLE) for id_ in ids if id_.startswith(TABLE))

    def table(self, name: str) -> Table:
        """Raises what making it raises."""
        made = next(s for s in self.sections if s.id == TABLE + name).made()
        found = made.data["table"]
        assert isinstance(found, Table)
        return found

    def section(self, id_: str) -> Section:
        """As it is shown: what cannot be made says why. Raises NotFound."""
        for section in self.sections:
            if section.id == id_:
                try:
                    return section.made()
                except DriftloopError as error:
                    return prose_section(id_, section.title, [str(error)])
        raise NotFound(f"the page has no section {shown(id_)}")


TABLE = "table-"


def table_section(title: str, table: Table, query: Mapping[str, str], note: str = "") -> Section:
    data = {"table": table.asked(query), "note": note}
    return Section(f"{TABLE}{table.name}", title, "table.html", data)


def later_section(id_: str, title: str, note: str, make: Callable[[], Section]) -> Section:
    """note: what is shown until it is there."""
    return Section(id_, title, "later.html", {"note": note}, make)


def prose_section(id_: str, title: str, sentences: list[str], empty: str = "") -> Section:
    return Section(id_, title, "prose.html", {"sentences": sentences, "empty": empty})


def facts_section(id_: str, title: str, facts: Mapping[str, Any]) -> Section:
    """facts: name → a text, a number, or a `Link`; None is left out."""
    kept = {name: value for name, value in facts.items() if value not in (None, "")}
    return Section(id_, title, "facts.html", {"facts": kept})


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    href: str
