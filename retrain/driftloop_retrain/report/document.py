"""What a report consists of, before it is HTML or Markdown. Each number keeps the place in the
record that it was read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Number:
    """pointer: its place in the record, as a JSON Pointer (RFC 6901)."""

    value: float | int
    pointer: str

    @property
    def text(self) -> str:
        return f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.6g}"


Cell = str | Number


@dataclass(frozen=True)
class Table:
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Line:
    """points: (x, y), in the chart's units. ends: of the interval of y of each point, if known."""

    name: str
    points: tuple[tuple[float, float], ...]
    ends: tuple[tuple[float, float], ...] = ()
    bars: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing of numbers that a table beside it has. said: what it shows, for those who do not
    see it. diagonal: whether y = x is drawn, as a guide. unit: whether both axes are from 0 to 1;
    else they have the range of the points, x with a mark at 0."""

    title: str
    said: str
    x: str
    y: str
    lines: tuple[Line, ...]
    diagonal: bool = False
    unit: bool = True


@dataclass(frozen=True)
class Section:
    title: str
    facts: tuple[tuple[str, Cell], ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.facts or self.notes or any(table.rows for table in self.tables))


@dataclass(frozen=True)
class Document:
    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Place:
    """A value in the record and its place there. A step to what is missing has the value None."""

    value: Any
    pointer: str = ""

    def __truediv__(self, key: str | int) -> "Place":
        pointer = f"{self.pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(self.value, Mapping):
            return Place(self.value.get(key), pointer)
        if isinstance(self.value, list | tuple) and isinstance(key, int) and key < len(self.value):
            return Place(self.value[key], pointer)
        return Place(None, pointer)

    def items(self) -> list[tuple[str, "Place"]]:
        """Of a mapping by key, of a list by number."""
        if isinstance(self.value, Mapping):
            return [(str(key), self / key) for key in self.value]
        return [(str(number), self / number) for number in range(len(self.value or ()))]

    @property
    def cell(self) -> Cell:
        value = self.value
        if isinstance(value, bool) or value is None:
            return {None: "–", True: "yes", False: "no"}[value]
        if isinstance(value, int | float):
            return Number(value, self.pointer)
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def facts(*pairs: tuple[str, Place]) -> tuple[tuple[str, Cell], ...]:
    """Those that the record has."""
    return tuple((name, place.cell) for name, place in pairs if place.value not in (None, "", []))


def table(
    caption: str, rows: Sequence[tuple[str, Place]], columns: Mapping[str, str], first: str = ""
) -> Table:
    """A row for each place; columns: titles by the keys in them. `first`: the title of a column
    with the rows' own names, if they have one."""
    named = bool(first)
    return Table(
        caption,
        (*((first,) if named else ()), *columns.values()),
        tuple(
            (*((name,) if named else ()), *((place / key).cell for key in columns))
            for name, place in rows
        ),
    )


def pairs_table(caption: str, place: Place, key: str, value: str) -> Table:
    """A row for each entry of a mapping."""
    return Table(caption, (key, value), tuple((name, each.cell) for name, each in place.items()))


def looked_up(record: Record, pointer: str) -> Any:
    """What a JSON Pointer names. Raises KeyError and IndexError."""
    found: Any = record
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found[int(key)] if isinstance(found, list | tuple) else found[key]
    return found
