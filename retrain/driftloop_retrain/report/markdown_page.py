"""A report as Markdown, and a Hugging Face model card from the same record."""

import yaml

from driftloop_retrain.report.document import Cell, Document, Number, Place, Record, Section, Table

TASKS = {"classification": "tabular-classification", "regression": "tabular-regression"}


def markdown_page(document: Document) -> str:
    return "\n\n".join([f"# {_plain(document.title)}", *map(_section, document.sections)]) + "\n"


def model_card(record: Record, document: Document) -> str:
    """The README of a Hugging Face repository: its metadata, then the report."""
    lineage, outcome = Place(record) / "lineage", Place(record) / "outcome"
    task = (lineage / "training" / "spec" / "task").value
    metadata = {
        "library_name": "onnx",
        "pipeline_tag": TASKS.get(str(task), "other"),
        "tags": ["driftloop", "onnx"],
        "model-index": [
            {
                "name": document.title,
                "results": [
                    {
                        "task": {"type": TASKS.get(str(task), "other")},
                        "dataset": {
                            "name": str((outcome / "data").value or "unknown"),
                            "type": "private",
                        },
                        "metrics": [
                            {"type": name, "value": place.value, "name": f"{name}, held-out rows"}
                            for name, place in (outcome / "metrics").items()
                        ],
                    }
                ],
            }
        ],
    }
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{markdown_page(document)}"


def _section(section: Section) -> str:
    parts = [f"## {_plain(section.title)}"]
    if section.facts:
        parts.append(
            "\n".join(f"- **{_plain(name)}**: {_cell(value)}" for name, value in section.facts)
        )
    if section.notes:
        parts.append("\n".join(f"- {_plain(note)}" for note in section.notes))
    parts += [_table(table) for table in section.tables if table.rows]
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    lines = [table.columns, tuple("---" for _ in table.columns)]
    rows = [tuple(_cell(cell) for cell in row) for row in table.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *rows])
    return f"**{_plain(table.caption)}**\n\n{body}"


def _cell(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else _plain(cell)


def _plain(text: str) -> str:
    """One line in which nothing is markup: names and categories are users' texts."""
    line = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        line = line.replace(mark, f"\\{mark}")
    return line
