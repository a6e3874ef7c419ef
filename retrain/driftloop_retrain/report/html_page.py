"""A report as one HTML file that opens offline. A number carries its place in the record:
`<data value="0.93" data-pointer="/outcome/metrics/accuracy">0.93</data>`."""

from html import escape

from driftloop_retrain.report.chart import svg_chart
from driftloop_retrain.report.document import Cell, Document, Number, Section, Table

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;margin:0}
main{max-width:70rem;margin:0 auto;padding:1rem}
h1,h2{line-height:1.2}h2{margin-top:2rem;border-bottom:1px solid #767676}
table{border-collapse:collapse;margin:1rem 0}
caption{text-align:left;font-weight:600;padding:.25rem 0}
th,td{border:1px solid #767676;padding:.25rem .6rem;text-align:left;vertical-align:top}
td{overflow-wrap:anywhere}td.number{text-align:right;font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}dt{font-weight:600}
dd{margin:0;overflow-wrap:anywhere}
figure{display:inline-block;margin:1rem 2rem 1rem 0}figcaption{font-weight:600}
svg{max-width:100%;font:12px system-ui,sans-serif}svg text{fill:#1a1a1a}
"""


def html_page(document: Document) -> str:
    sections = "".join(map(_section, document.sections))
    title = escape(document.title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{title}</h1>\n{sections}</main></body></html>\n"
    )


def _section(section: Section) -> str:
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{_cell(value)}</dd>" for name, value in section.facts
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in section.notes)
    return (
        f"<section><h2>{escape(section.title)}</h2>\n"
        + (f"<dl>{facts}</dl>\n" if facts else "")
        + (f"<ul>{notes}</ul>\n" if notes else "")
        + "".join(map(svg_chart, section.charts))
        + "".join(_table(table) for table in section.tables if table.rows)
        + "</section>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name) or "row"}</th>' for name in table.columns)
    body = "".join(f"<tr>{''.join(map(_data, row))}</tr>\n" for row in table.rows)
    return (
        f"<table><caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>\n{body}</tbody></table>\n"
    )


def _data(cell: Cell) -> str:
    kind = ' class="number"' if isinstance(cell, Number) else ""
    return f"<td{kind}>{_cell(cell)}</td>"


def _cell(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return escape(cell)
    return f'<data value="{cell.value!r}" data-pointer="{escape(cell.pointer)}">{cell.text}</data>'
