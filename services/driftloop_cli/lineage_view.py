"""A version's lineage, and how it was reproduced, as a person reads them."""

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from driftloop_retrain.job.reproduce import Reproduction

Record = dict[str, Any]


def lineage_tree(document: Record) -> RenderableType:
    aliases = f" ({', '.join(document['aliases'])})" if document["aliases"] else ""
    tree = Tree(f"[bold]{document['model']} version {document['version']}[/bold]{aliases}")
    if document["source"] == "deployed":
        tree.add("deployed from outside")
    elif "data" in document:
        _trained(tree, document)
    else:
        tree.add("retrained, before versions kept their lineage")
    if document.get("tags"):
        _branch(tree, "tags", document["tags"])
    if document["metrics"]:
        _branch(tree, "metrics", {n: f"{value:.6g}" for n, value in document["metrics"].items()})
    if document["ancestors"]:
        tree.add("parents: " + " ← ".join(f"v{number}" for number in document["ancestors"]))
    if document["report"]:
        tree.add(Text(f"report: {document['report']}", overflow="fold"))
    _branch(tree, "files (SHA-256)", document["files"])
    return tree


def _trained(tree: Tree, document: Record) -> None:
    data, training = document["data"], document["training"]
    code, environment = document["code"], document["environment"]
    tree.add(f"retrained {document['made_at'][:19]}: {document['reason'] or document['trigger']}")
    lake = tree.add(f"data: predictions@{data['predictions']} labels@{data['labels']}")
    lake.add(f"labels received up to {data['as_of']}")
    rows = f"{data['rows']:,} rows: {data['trained_rows']:,} trained on"
    lake.add(f"{rows}, {data['holdout_rows']:,} held out, {data['fresh_rows']:,} since the change")
    for table, offsets in data["offsets"].items():
        places = ", ".join(f"{place}@{offset}" for place, offset in offsets.items())
        lake.add(f"Kafka offsets of {table}: {places or 'none'}")
    won = tree.add(f"recipe: {training['family']}, {training['rounds']} rounds")
    won.add(f"on the span {training['span']}; competed: {', '.join(training['recipes'])}")
    won.add(f"seed {document['seed']}")
    _branch(won, "settings", training["settings"])
    source = tree.add(f"code: driftloop {code['version']}, commit {code['commit'] or 'unknown'}")
    source.add(f"sources {code['sha256'][:16]}")
    for name, digest in code["recipes"].items():
        source.add(f"recipe {name} {digest[:16]}")
    tree.add(
        f"environment: Python {environment['python']}, {environment['machine']}, "
        f"{len(environment['packages'])} packages {environment['sha256'][:16]}"
    )
    tuning = document.get("tuning")
    tree.add(f"{'adapter' if tuning else 'graph'}: {document['graph_sha256'][:16]}")
    if tuning:
        _tuned(tree, tuning)


def _tuned(tree: Tree, tuning: Record) -> None:
    begun = tuning["start_version"]
    origin = "from nothing" if begun is None else f"from version {begun}'s weights"
    tree.add(
        f"adapter on version {tuning['base_version']} ({tuning['base_fingerprint'][:16]}), "
        f"trained {origin}"
    )
    _branch(tree, "learnt from", tuning["kinds"])
    _branch(tree, "left out", tuning["dropped"])
    _branch(tree, "settings of llm", tuning["settings"])


def _branch(tree: Tree, name: str, items: Record) -> None:
    branch = tree.add(name)
    for key, value in items.items():
        branch.add(Text(f"{key}: {value}", overflow="fold"))


def reproduction_table(found: "Reproduction") -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("", "recorded", "again", ""):
        table.add_column(column)
    for item in (*found.compared, found.graph):
        mark = "[green]same[/green]" if item.same else "[red]differs[/red]"
        table.add_row(item.name, _short(item.recorded), _short(item.again), mark)
    lines: list[RenderableType] = [table]
    if found.differences:
        lines.append(Text("not as it was then: " + "; ".join(found.differences)))
    name = f"{found.model} version {found.version}"
    lines.append(Text(f"{name} was {'reproduced' if found.ok else 'not reproduced'}", "bold"))
    return Group(*lines)


def _short(value: float | str) -> str:
    return value[:16] if isinstance(value, str) else f"{value:.8g}"
