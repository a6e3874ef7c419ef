"""Tables that fit the terminal without truncating or breaking identifiers.

If the columns do not fit side by side, the widest texts are wrapped between words. If that is not
enough, each row becomes a block of lines, `column  value`. Text is never cut and words are never
broken, so names, addresses and ids stay complete. Without a width (a pipe, a file), every row is
one line.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from driftloop_cli.terminal import printable

Cell = str | tuple[str, str]
"""A text, or a text with its style."""

GAP = 2
_ONE_LINE = str.maketrans("\n\t", "  ")
LEAST_WORDS = 20
"""Narrower wrapped text is harder to read than a block."""


@dataclass(frozen=True)
class Rows:
    """A table. `columns`: the titles; the first column identifies the row. `prose`: the titles of
    columns with sentences, which may be wrapped between words."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    prose: frozenset[str] = frozenset()

    def lines(self, width: int | None) -> list[Text]:
        """Format the rows in at most `width` terminal columns, if the words allow it; None: no
        limit."""
        cells = [[_cell(cell) for cell in row] for row in self.rows]
        widths = [
            max(cell_len(text) for text in (title, *(row[i][0] for row in cells)))
            for i, title in enumerate(self.columns)
        ]
        if width is not None:
            fitted = self._fitted(widths, cells, width)
            if fitted is None:
                return self._blocks(cells, width)
            widths = fitted
        head = [(title, "bold") for title in self.columns]
        return [line for row in (head, *cells) for line in _side_by_side(row, widths)]

    def _fitted(
        self, widths: list[int], cells: list[list[tuple[str, str]]], width: int
    ) -> list[int] | None:
        """Return column widths that fit, wrapping the widest prose first; None if that is not
        possible."""
        widths = list(widths)
        least = {
            i: max(
                LEAST_WORDS,
                cell_len(title),
                *(cell_len(word) for row in cells for word in row[i][0].split()),
            )
            for i, title in enumerate(self.columns)
            if title in self.prose
        }
        while (excess := sum(widths) + GAP * (len(widths) - 1) - width) > 0:
            shrinkable = [i for i in least if widths[i] > least[i]]
            if not shrinkable:
                return None
            widest = max(shrinkable, key=widths.__getitem__)
            widths[widest] = max(least[widest], widths[widest] - excess)
        return widths

    def _blocks(self, cells: list[list[tuple[str, str]]], width: int) -> list[Text]:
        title_width = max(map(cell_len, self.columns))
        lines = []
        for row in cells:
            for number, (title, (text, style)) in enumerate(zip(self.columns, row, strict=True)):
                indent = "" if number == 0 else "  "
                left = f"{indent}{title}{' ' * (title_width - cell_len(title) + 4 - len(indent))}"
                first, *more = _wrapped(text, max(LEAST_WORDS, width - cell_len(left)))
                lines.append(Text.assemble((left, "dim" if number else "bold"), (first, style)))
                lines += [Text(" " * cell_len(left)).append(part, style) for part in more]
        return lines


def _cell(cell: Cell) -> tuple[str, str]:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return printable(text.translate(_ONE_LINE)), style


def _wrapped(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _side_by_side(row: Sequence[tuple[str, str]], widths: Sequence[int]) -> list[Text]:
    """Format one row, in as many lines as its longest wrapped cell."""
    wrapped = [_wrapped(text, width) for (text, _), width in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, wrapped))):
        line = Text()
        for (_, style), parts, width in zip(row, wrapped, widths, strict=True):
            part = parts[number] if number < len(parts) else ""
            line.append(part, style)
            line.append(" " * (width - cell_len(part) + GAP))
        line.rstrip()
        lines.append(line)
    return lines
