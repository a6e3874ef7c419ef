"""The command that checks a recipe of one's own."""

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from driftloop_cli.options import Invocation, stack_command
from driftloop_cli.terminal import console
from driftloop_contracts.errors import Rejected


@stack_command
def check_recipe(
    run: Invocation,
    name: Annotated[
        str, typer.Argument(metavar="RECIPE", help="module:attribute, or a built-in's name.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="A parquet or CSV file to train on. [default: made-up rows]"),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Its column to predict; repeatable.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="classification or regression; of one of several labels, LABEL=regression. "
            "[default: both]"
        ),
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="Seconds that it may take.")] = 300.0,
) -> None:
    """Check whether a recipe trains, exports and answers as a retrain needs. Exit code 0: it does.

    It is trained several times on few rows, its graph is compared with its own answers, on
    categories never seen and on one row, and its loss with a constant's.
    """
    from driftloop_retrain.tabular.dataset import from_file
    from driftloop_retrain.tabular.initial_training import tasks_by_label, tasks_said
    from driftloop_retrain.tabular.recipes import check, find_recipe
    from driftloop_retrain.tabular.several.check import check_recipe_together
    from driftloop_retrain.tabular.several.data import from_file_together

    if (data is None) != (not label) or (data is not None and not task):
        raise Rejected("--data, --label and --task are given together")
    said = tasks_by_label(label or ["made up"], tasks_said(task or []))
    sys.path.insert(0, str(Path.cwd()))  # as for `python -m`
    recipe = find_recipe(name)
    before = signal.signal(signal.SIGALRM, lambda *_: _end(timeout_s))
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        with tempfile.TemporaryDirectory(prefix="driftloop-check-") as work:
            if data is not None and len(said) > 1:
                both = from_file_together(data, said, None)
                check_recipe_together(recipe, said, both, Path(work))
            elif data is not None:
                ((column, kind),) = said.items()
                rows = from_file(data, kind, column, None)
                check.check_recipe_on(recipe, kind, rows, Path(work))
            else:
                tasks: Any = tuple(said.values()) if task else ("classification", "regression")
                check.check_recipe(recipe, Path(work), tasks)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    document = {"recipe": recipe.name, "ok": True}
    run.emit(document, lambda: console.print(f"{recipe.name} does what a retrain needs"))


def _end(timeout_s: float) -> None:
    raise Rejected(f"the recipe is not done after {timeout_s:g} s (--timeout-s)")
