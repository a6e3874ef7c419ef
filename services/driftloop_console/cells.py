"""The cells of tables as HTML. In Python and not in a template, as pages have thousands of them."""

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape

from driftloop_console import words
from driftloop_console.tables import Column, Kind, Row
from driftloop_contracts.durations import in_short

NOTHING = "–"
WORDS: Mapping[Kind, Callable[[Any], str]] = {
    "count": words.count, "number": words.number, "share": words.share, "seconds": in_short,
}  # fmt: skip


def cell(column: Column, row: Row) -> Markup:
    """With the link that it leads to."""
    shown = _shown(column.kind, row.get(column.key))
    href = column.href(row) if column.href else None
    if href:
        shown = f'<a href="{escape(href)}">{shown}</a>'
    return Markup(f'<td class="{column.kind}">{shown}</td>')


def _shown(kind: Kind, value: Any) -> str:
    """As HTML."""
    if value is None or value == "":
        return NOTHING
    if kind == "state":
        state = escape(value)
        return f'<span class="state state-{state}">{state.replace("_", " ")}</span>'
    if kind == "time":
        return f'<time datetime="{escape(value)}">{words.time(value)}</time>'
    return escape(WORDS.get(kind, words.clip)(value))
