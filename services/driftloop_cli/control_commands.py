"""Commands that use a running stack: status, deploy, retrain, rollout."""

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftloop_cli.options import Invocation, Model, stack_command
from driftloop_cli.status_view import rollout_rows, status_view
from driftloop_cli.terminal import console, styled
from driftloop_contracts.errors import NotFound, Rejected

if TYPE_CHECKING:
    from driftloop_cli.control_client import ControlClient

LOAD_TIMEOUT_S = 900.0
"""Large weights take minutes to load."""

Reason = Annotated[str, typer.Option("--reason", help="Recorded in the audit log.")]


def _client(run: Invocation) -> "ControlClient":
    from driftloop_cli.control_client import ControlClient

    return ControlClient(run.folder)


@stack_command
def status(
    run: Invocation,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
) -> None:
    """Show roles, models, traffic split, windows, alerts, retrains and rollouts."""
    client = _client(run)
    if not watch or run.as_json:
        document = client.get("/api/status")
        run.emit(document, lambda: console.show(status_view(document, console.width_limit)))
        return
    from rich.console import Group
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                lines = status_view(client.get("/api/status"), console.width)
                live.update(Group(*lines), refresh=True)
                time.sleep(1.0)
        except KeyboardInterrupt:
            return


@stack_command
def metrics(run: Invocation, name: Model) -> None:
    """Show the metrics of the champion's newest labelled rows, with 95 % intervals."""
    from driftloop_cli.metrics_view import metrics_view

    document = _client(run).get(f"/api/models/{name}/metrics")
    run.emit(document, lambda: console.show(metrics_view(document, console.width_limit)))


@stack_command
def deploy(
    run: Invocation,
    path: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="MODEL.yaml or its folder; models:/NAME/VERSION or runs:/ID/path of MLflow; or, "
            "with --name, MODEL.onnx or the folder of a language model or adapter.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The model's name, for a bare file or folder.")
    ] = None,
    base: Annotated[
        int | None,
        typer.Option(
            help="The version whose weights the adapter belongs to (default: the champion's)."
        ),
    ] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Replace a serving version without a rollout.")
    ] = False,
) -> None:
    """Serve a model.

    A model's first version serves at once; a later one must first win a canary.

    MODEL.yaml contains: name, model (the .onnx file, relative to it), and, for the loop: task
    (classification or regression), output (the tensor that labels are compared with), recipe,
    slices, reference (a parquet file), options. `signature` (inputs, outputs) is checked if given.

    A language model's MODEL.yaml contains: name, runtime: vllm, model (a Hugging Face folder with
    safetensors, or s3://…), and: task: generation, recipe (lora-sft or lora-dpo), options (engine:
    vLLM's arguments; replicas, cpus). An adapter is a folder with adapter_config.json.
    """
    from driftloop_contracts.model_archive import pack
    from driftloop_registry.mlflow_models import is_mlflow_uri

    client = _client(run)
    said = {key: value for key, value in (("name", name), ("base", base)) if value is not None}
    with tempfile.TemporaryFile() as archive, tempfile.TemporaryDirectory() as scratch:
        if is_mlflow_uri(path):
            from driftloop_cli.model_uri import folder_of  # slow to import

            pack(archive, folder_of(path, name, Path(scratch)), said)
        else:
            pack(archive, Path(path), said)
        with console.status(f"sending {archive.tell() / 1e6:,.0f} MB"):
            answer = client.put_archive("/api/models", archive, at_once=str(at_once).lower())
    _await_loaded(client, answer)

    def show() -> None:
        what = f"{answer['model']} version {answer['version']}"
        if answer["rollout"]:
            console.print(f"{what} starts its canary (rollout {answer['rollout']})")
        else:
            console.print(f"{what} is serving")
        if answer.get("judged_by"):
            console.print(f"{what} is {answer['judged_by']}")

    run.emit(answer, show)


def _await_loaded(client: "ControlClient", answer: dict[str, Any]) -> None:
    """Return when replicas hold the version; a rollout loads its candidate by itself. Raises
    Rejected with the reason if it cannot be loaded."""
    if answer["rollout"]:
        return
    version, began = answer["version"], time.monotonic()
    with console.status("") as shown:
        while (waited_s := time.monotonic() - began) < LOAD_TIMEOUT_S:
            shown.update(styled(f"loading {answer['model']} version {version} ({waited_s:.0f} s)"))
            for model in client.get("/api/status")["models"]:
                if model["name"] != answer["model"]:
                    continue
                if version in model["loaded"]:
                    return
                reason = model.get("failed", {}).get(str(version))
                if reason is not None:
                    raise Rejected(f"version {version} cannot be loaded: {reason}")
            time.sleep(0.2)
    raise Rejected(f"no replica loaded version {version} within {LOAD_TIMEOUT_S:.0f} s")


@stack_command
def remove(
    run: Invocation,
    model: Model,
    delete_data: Annotated[
        bool,
        typer.Option("--delete-data", help="Also delete its predictions from the lake."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove a model: it is no longer served, monitored or retrained.

    Returns when replicas have ceased to answer for it, or after 15 s with a notice.
    A retrain or rollout in progress ends. Its versions stay in the registry, and its predictions
    and labels in the lake, where `driftloop query` reads them; deployed again under its name, it
    continues with the next version. With --delete-data its predictions are deleted: their files
    follow after `lake.vacuum_hours`. Labels, which hold no inputs, stay as long as
    `lake.retention_days` says.
    """
    client = _client(run)
    if not yes:
        data = "and delete its predictions" if delete_data else "and keep its data"
        if not sys.stdin.isatty():
            raise Rejected(f"to remove {model} {data}, repeat the command with --yes")
        typer.confirm(f"Remove {model} {data}?", abort=True, err=True)
    answer = client.delete(f"/api/models/{model}", delete_data=str(delete_data).lower())

    def show() -> None:
        console.print(f"removed {model}; its data are {answer['lake']}")
        if not answer["unloaded"]:
            console.print("replicas still answer for it, until they have applied the removal")

    run.emit(answer, show)


@stack_command
def retrain(
    run: Invocation,
    model: Model,
    reason: Reason = "requested by an operator",
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="Replaces the model's own recipe; repeatable."),
    ] = None,
    override_gate: Annotated[
        bool,
        typer.Option("--override-gate", help="Canary the candidate even if the gate rejects it."),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the retrain is finished.")
    ] = False,
) -> None:
    """Retrain a model now, on the labelled rows in the lake."""
    client = _client(run)
    body = {
        "model": model,
        "reason": reason,
        "recipes": recipe or [],
        "override_gate": override_gate,
    }
    record = client.post("/api/retrains", body)
    if wait:
        record = _follow_retrain(client, record, quiet=run.as_json)
    run.emit(record, lambda: _show_retrain(record))
    if record["state"] == "failed":
        raise typer.Exit(1)


def _show_retrain(record: dict[str, Any]) -> None:
    console.print(f"retrain {record['id']}: {record['state']}")
    for sentence in record.get("reasons") or ():
        console.print(f"  {sentence}")
    if record["state"] == "failed" and record.get("error"):
        console.print(record["error"].rstrip())


def _follow_retrain(
    client: "ControlClient", record: dict[str, Any], *, quiet: bool
) -> dict[str, Any]:
    said = None
    while record["state"] in ("requested", "running"):
        time.sleep(0.5)
        rows = client.get("/api/retrains", model=record["model"])
        record = next(row for row in rows if row["id"] == record["id"])
        message = (record.get("progress") or {}).get("message")
        if message and message != said and not quiet:
            console.print(message)
            said = message
    return record


rollout = typer.Typer(help="Watch and control rollouts.", no_args_is_help=True)


@rollout.command("start")
@stack_command
def rollout_start(
    run: Invocation,
    model: Model,
    version: Annotated[int, typer.Argument(help="A registered version.")],
    reason: Reason = "requested by an operator",
) -> None:
    """Canary a registered version of a model."""
    client = _client(run)
    record = client.post("/api/rollouts", {"model": model, "version": version, "reason": reason})
    run.emit(record, lambda: console.print(f"rollout {record['id']} starts"))


@rollout.command("status")
@stack_command
def rollout_status(
    run: Invocation,
    model: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
) -> None:
    """Show rollouts, newest first."""
    client = _client(run)
    rows = client.get("/api/rollouts", **({"model": model} if model else {}))
    run.emit(rows, lambda: console.show(rollout_rows(rows).lines(console.width_limit)))


def _steering(event: str, help_text: str) -> None:
    @rollout.command(event, help=help_text)
    @stack_command
    def steer(
        run: Invocation,
        model: Model,
        reason: Reason = "",
    ) -> None:
        client = _client(run)
        rows = client.get("/api/rollouts", model=model, limit=1)
        if not rows:
            raise NotFound(f"model {model!r} has no rollout")
        record = client.post(f"/api/rollouts/{rows[0]['id']}/{event}", {"reason": reason})
        run.emit(record, lambda: console.print(f"rollout {record['id']}: {record['state']}"))


_steering("approve", "Let happen what waits for a person: the canary, or a proven promotion.")
_steering("retry", "Start the newest rollout again, if it was aborted or rolled back.")
_steering("pause", "Hold the newest rollout of a model at its current weight.")
_steering("resume", "Resume a paused rollout.")
_steering("promote", "Promote the canary without waiting for evidence.")
_steering("abort", "Send all traffic back to the champion and end the rollout.")
