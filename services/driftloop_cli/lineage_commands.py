"""Commands about the origin of a version: lineage, report, reproduce."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from driftloop_cli.options import Invocation, Model, logged, stack_command
from driftloop_cli.terminal import console, printable

TREE_WIDTH = 100_000
"""Rich truncates wider lines, but digests and paths must be complete."""

Version = Annotated[int, typer.Argument(metavar="VERSION", help="Its version.")]


@stack_command
@logged
def lineage(
    run: Invocation,
    name: Model,
    version: Version,
) -> None:
    """Show how a version was made: data, label cut-off, code, settings, environment,
    parent."""
    from driftloop_artifacts import open_artifacts
    from driftloop_cli.lineage_view import lineage_tree
    from driftloop_registry.mlflow_registry import open_registry
    from driftloop_retrain.record.lineage import lineage_document

    settings = run.settings
    files = open_artifacts(settings).use
    document = lineage_document(open_registry(settings), name, version, files)
    run.emit(document, lambda: console.print(lineage_tree(document), width=TREE_WIDTH))


@stack_command
@logged
def report(
    run: Invocation,
    name: Model,
    version: Version,
    output: Annotated[
        Path | None, typer.Option(help="The folder to write into. [default: NAME-VERSION]")
    ] = None,
) -> None:
    """Write a version's report: report.html, report.md, a Hugging Face model card (README.md) and
    the record that they are made from.

    The same record gives the same bytes. The pages need no network.
    """
    from driftloop_artifacts import open_artifacts
    from driftloop_registry.mlflow_registry import open_registry
    from driftloop_retrain.report.record import pages, version_record
    from driftloop_store import open_store

    settings = run.settings
    store, kept = open_store(settings.store_url), open_artifacts(settings).use
    record = version_record(open_registry(settings), store, name, version, kept)
    folder = output or Path(f"{name}-{version}")
    folder.mkdir(parents=True, exist_ok=True)
    files = {file: str(folder / file) for file in pages(record)}
    for file, text in pages(record).items():
        (folder / file).write_text(text, encoding="utf-8")
    run.emit(
        {"model": name, "version": version, "files": files},
        lambda: console.print(f"wrote {', '.join(files.values())}"),
    )


@stack_command
@logged
def reproduce(
    run: Invocation,
    name: Model,
    version: Version,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0, help="The largest allowed difference of a metric, absolute and relative."
        ),
    ] = 1e-6,
) -> None:
    """Train a version again from its lineage and compare. Exit code 0: the result is the same.

    Metrics must agree within the tolerance, and the graph exactly, unless code, libraries or
    machine differ from the original ones. Nothing is registered, and serving is not affected.
    """
    # Read when the libraries are loaded; the retrain used the same value.
    os.environ["OMP_NUM_THREADS"] = "1"
    from rich.progress import Progress

    from driftloop_cli.lineage_view import reproduction_lines
    from driftloop_lake.delta_lake import open_lake
    from driftloop_registry.mlflow_registry import open_registry
    from driftloop_retrain.job.reproduce import reproduce as train_again

    settings = run.settings
    os.nice(settings.retrain.nice)
    registry = open_registry(settings)
    record = registry.version(name, version)
    with (
        tempfile.TemporaryDirectory(prefix="driftloop-reproduce-") as work,
        Progress(console=console, transient=True, disable=run.as_json) as bar,
    ):
        task = bar.add_task("", total=1.0)
        found = train_again(
            settings,
            open_lake(settings),
            registry,
            record,
            Path(work),
            tolerance,
            lambda done, words: bar.update(
                task, completed=done, description=escape(printable(words))
            ),
        )
    run.emit(found.to_dict(), lambda: console.show(reproduction_lines(found, console.width_limit)))
    if not found.ok:
        raise typer.Exit(1)
