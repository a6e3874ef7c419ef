"""Formats a version's lineage and its reproduction for people."""

from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from driftloop_cli.table_layout import Cell, Rows
from driftloop_cli.terminal import styled

if TYPE_CHECKING:
    from driftloop_retrain.job.reproduce import Reproduction

Record = dict[str, Any]


def lineage_tree(document: Record) -> Tree:
    aliases = f" ({', '.join(document['aliases'])})" if document["aliases"] else ""
    tree = Tree(styled((f"{document['model']} version {document['version']}", "bold"), aliases))
    if document["source"] == "deployed":
        tree.add(styled("deployed from outside"))
    elif "data" in document:
        _trained(tree, document)
    else:
        tree.add(styled("retrained, before versions kept their lineage"))
    if document.get("tags"):
        _branch(tree, "tags", document["tags"])
    if document["metrics"]:
        _branch(tree, "metrics", {n: f"{value:.6g}" for n, value in document["metrics"].items()})
    if document["ancestors"]:
        tree.add(styled("parents: " + " ← ".join(f"v{number}" for number in document["ancestors"])))
    if document["report"]:
        tree.add(styled(f"report: {document['report']}"))
    _branch(tree, "files (SHA-256)", document["files"])
    return tree


def _trained(tree: Tree, document: Record) -> None:
    data, training = document["data"], document["training"]
    code, environment = document["code"], document["environment"]
    tree.add(
        styled(f"retrained {document['made_at'][:19]}: {document['reason'] or document['trigger']}")
    )
    lake = tree.add(styled(f"data: predictions@{data['predictions']} labels@{data['labels']}"))
    lake.add(styled(f"labels received up to {data['as_of']}"))
    rows = f"{data['rows']:,} rows: {data['trained_rows']:,} trained on"
    lake.add(
        styled(
            f"{rows}, {data['holdout_rows']:,} held out, {data['fresh_rows']:,} since the change"
        )
    )
    for table, offsets in data["offsets"].items():
        places = ", ".join(f"{place}@{offset}" for place, offset in offsets.items())
        lake.add(styled(f"Kafka offsets of {table}: {places or 'none'}"))
    won = tree.add(styled(f"recipe: {training['family']}, {training['rounds']} rounds"))
    won.add(styled(f"on the span {training['span']}; competed: {', '.join(training['recipes'])}"))
    won.add(styled(f"seed {document['seed']}"))
    _branch(won, "settings", training["settings"])
    source = tree.add(
        styled(f"code: driftloop {code['version']}, commit {code['commit'] or 'unknown'}")
    )
    source.add(styled(f"sources {code['sha256'][:16]}"))
    for name, digest in code["recipes"].items():
        source.add(styled(f"recipe {name} {digest[:16]}"))
    tree.add(
        styled(
            f"environment: Python {environment['python']}, {environment['machine']}, "
            f"{len(environment['packages'])} packages {environment['sha256'][:16]}"
        )
    )
    tuning = document.get("tuning")
    tree.add(styled(f"{'adapter' if tuning else 'graph'}: {document['graph_sha256'][:16]}"))
    if tuning:
        _tuned(tree, tuning)


def _tuned(tree: Tree, tuning: Record) -> None:
    begun = tuning["start_version"]
    origin = "from nothing" if begun is None else f"from version {begun}'s weights"
    tree.add(
        styled(
            f"adapter on version {tuning['base_version']} ({tuning['base_fingerprint'][:16]}), "
            f"trained {origin}"
        )
    )
    _branch(tree, "learnt from", tuning["kinds"])
    _branch(tree, "left out", tuning["dropped"])
    _branch(tree, "settings of llm", tuning["settings"])


def _branch(tree: Tree, name: str, items: Record) -> None:
    branch = tree.add(styled(name))
    for key, value in items.items():
        branch.add(styled(f"{key}: {value}"))


def reproduction_lines(found: "Reproduction", width: int | None) -> list[Text]:
    rows: list[tuple[Cell, ...]] = []
    for item in (*found.compared, found.graph):
        mark = ("same", "green") if item.same else ("differs", "red")
        rows.append((item.name, _short(item.recorded), _short(item.again), mark))
    lines = Rows(("", "recorded", "again", ""), rows).lines(width)
    if found.differences:
        lines.append(styled("changed since then: " + "; ".join(found.differences)))
    name = f"{found.model} version {found.version}"
    verdict = "reproduced" if found.ok else "not reproduced"
    return [*lines, styled((f"{name} was {verdict}", "bold"))]


def _short(value: float | str) -> str:
    return value[:16] if isinstance(value, str) else f"{value:.8g}"
