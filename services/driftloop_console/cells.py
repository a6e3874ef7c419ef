"""The rows of tables as HTML. In Python and not in a template, as pages have thousands of cells."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from driftloop_console import words
from driftloop_console.tables import Column, Kind, Row
from driftloop_contracts.durations import in_short

NOTHING = "–"


def body(columns: Sequence[Column], rows: Sequence[Row]) -> Markup:
    """The rows of a table, each cell with the link that it leads to."""
    made = [(f'<td class="{c.kind}">', c.key, HTML.get(c.kind, _text), c.href) for c in columns]
    parts: list[str] = []
    for row in rows:
        parts.append("<tr>")
        for begin, key, html, link in made:
            value = row.get(key)
            shown = NOTHING if value is None or value == "" else html(value)
            if link and (href := link(row)):
                shown = f'<a href="{escape(href)}">{shown}</a>'
            parts.append(f"{begin}{shown}</td>")
        parts.append("</tr>\n")
    return Markup("".join(parts))


def _text(value: Any) -> str:
    return str(escape(words.clip(value)))


def _state(value: Any) -> str:
    state = str(escape(value))
    return f'<span class="state state-{state}">{state.replace("_", " ")}</span>'


def _time(value: Any) -> str:
    return f'<time datetime="{escape(value)}">{words.time(value)}</time>'


HTML: Mapping[Kind, Callable[[Any], str]] = {
    "count": words.count, "number": words.number, "share": words.share, "seconds": in_short,
    "state": _state, "time": _time,
}  # fmt: skip
"""Numbers hold nothing that has to be escaped."""
