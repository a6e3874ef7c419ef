"""Commands that talk to a running stack: status, deploy, retrain, rollout."""

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.live import Live

from driftloop_cli.control_client import ControlClient
from driftloop_cli.options import (
    AsJson,
    ConfigFile,
    Model,
    Sets,
    StateDir,
    console,
    emit,
    reported,
    settings_from,
)
from driftloop_cli.status_view import rollout_table, status_view
from driftloop_contracts.errors import NotFound, Rejected

Reason = Annotated[str, typer.Option("--reason", help="Stands in the audit log.")]


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl-C.")] = False,
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show roles, models, traffic split, windows, alarms, retrains and rollouts."""
    with reported(as_json):
        client = ControlClient(settings_from(state_dir, sets, config).state_dir)
        if not watch or as_json:
            document = client.get("/api/status")
            emit(document, as_json, lambda: console.print(status_view(document)))
            return
        with Live(console=console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(status_view(client.get("/api/status")), refresh=True)
                    time.sleep(1.0)
            except KeyboardInterrupt:
                return


def deploy(
    path: Annotated[
        Path, typer.Argument(metavar="MODEL", help="MODEL.yaml, or MODEL.onnx with --name.")
    ],
    name: Annotated[
        str | None, typer.Option(help="The model's name, for a bare .onnx file.")
    ] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Replace a serving version without a rollout.")
    ] = False,
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Serve a model.

    A model's first version serves at once; a later one has to win a canary first.

    MODEL.yaml holds: name, model (the .onnx file, relative to it), and, for the loop: task
    (classification or regression), output (the tensor that labels compare with), recipe, slices,
    reference (a parquet file), options. `signature` (inputs, outputs) is checked if given.
    """
    with reported(as_json):
        client = ControlClient(settings_from(state_dir, sets, config).state_dir)
        answer = client.put_archive(
            "/api/models", model_archive(path, name), at_once=str(at_once).lower()
        )
        _await_loaded(client, answer)

        def show() -> None:
            what = f"{answer['model']} version {answer['version']}"
            if answer["rollout"]:
                console.print(f"{what} starts its canary (rollout {answer['rollout']})")
            else:
                console.print(f"{what} is serving")

        emit(answer, as_json, show)


def model_archive(path: Path, name: str | None) -> bytes:
    """The tar archive that the control API takes in, from a MODEL.yaml or a bare .onnx file."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    if path.suffix in (".yaml", ".yml"):
        try:
            spec = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise Rejected(f"{path} is no YAML: {error}") from None
        if not isinstance(spec, dict) or "name" not in spec or "model" not in spec:
            raise Rejected(f"{path} must hold at least `name` and `model`")
        if name is not None:
            spec["name"] = name
        graph = path.parent / spec.pop("model")
        reference = spec.pop("reference", None)
        files = {"reference.parquet": path.parent / reference} if reference else {}
    else:
        if name is None:
            raise Rejected("give the model a name: `driftloop deploy MODEL.onnx --name NAME`")
        spec, graph, files = {"name": name}, path, {}
    files["model.onnx"] = graph
    data = graph.with_name(graph.name + ".data")
    if data.is_file():
        files["model.onnx.data"] = data
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        encoded = json.dumps(spec).encode()
        info = tarfile.TarInfo("model.json")
        info.size = len(encoded)
        tar.addfile(info, io.BytesIO(encoded))
        for target, file in files.items():
            if not file.is_file():
                raise NotFound(f"{path} names the file {file}, which does not exist")
            tar.add(file, target)
    return buffer.getvalue()


def _await_loaded(client: ControlClient, answer: dict[str, Any], timeout_s: float = 60.0) -> None:
    """Return when replicas hold the version; a rollout loads its candidate by itself."""
    if answer["rollout"]:
        return
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for model in client.get("/api/status")["models"]:
            if model["name"] == answer["model"] and answer["version"] in model["loaded"]:
                return
        time.sleep(0.2)
    raise Rejected(f"no replica loaded version {answer['version']} within {timeout_s:.0f} s")


def retrain(
    model: Model,
    reason: Reason = "asked for by an operator",
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="Instead of the model's own; repeatable.")
    ] = None,
    override_gate: Annotated[
        bool, typer.Option("--override-gate", help="Canary the result even if the gate says no.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is over.")] = False,
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Retrain a model now, on the labelled rows in the lake."""
    with reported(as_json):
        client = ControlClient(settings_from(state_dir, sets, config).state_dir)
        body = {
            "model": model,
            "reason": reason,
            "recipes": recipe or [],
            "override_gate": override_gate,
        }
        record = client.post("/api/retrains", body)
        if wait:
            record = _follow_retrain(client, record, quiet=as_json)
        emit(record, as_json, lambda: console.print(f"retrain {record['id']}: {record['state']}"))
        if record["state"] == "failed":
            raise typer.Exit(1)


def _follow_retrain(
    client: ControlClient, record: dict[str, Any], *, quiet: bool
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


rollout = typer.Typer(help="Watch and steer rollouts.", no_args_is_help=True)


@rollout.command("start")
def rollout_start(
    model: Model,
    version: Annotated[int, typer.Argument(help="A registered version.")],
    reason: Reason = "asked for by an operator",
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Canary a registered version of a model."""
    with reported(as_json):
        client = ControlClient(settings_from(state_dir, sets, config).state_dir)
        record = client.post(
            "/api/rollouts", {"model": model, "version": version, "reason": reason}
        )
        emit(record, as_json, lambda: console.print(f"rollout {record['id']} starts"))


@rollout.command("status")
def rollout_status(
    model: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show rollouts, newest first."""
    with reported(as_json):
        client = ControlClient(settings_from(state_dir, sets, config).state_dir)
        rows = client.get("/api/rollouts", **({"model": model} if model else {}))
        emit(rows, as_json, lambda: console.print(rollout_table(rows)))


def _steering(event: str, help_text: str) -> None:
    @rollout.command(event, help=help_text)
    def steer(
        model: Model,
        reason: Reason = "",
        state_dir: StateDir = None,
        sets: Sets = None,
        config: ConfigFile = None,
        as_json: AsJson = False,
    ) -> None:
        with reported(as_json):
            client = ControlClient(settings_from(state_dir, sets, config).state_dir)
            rows = client.get("/api/rollouts", model=model, limit=1)
            if not rows:
                raise NotFound(f"model {model!r} has no rollout")
            record = client.post(f"/api/rollouts/{rows[0]['id']}/{event}", {"reason": reason})
            emit(
                record, as_json, lambda: console.print(f"rollout {record['id']}: {record['state']}")
            )


_steering("pause", "Hold the newest rollout of a model at its present weight.")
_steering("resume", "Let a paused rollout go on.")
_steering("promote", "Promote the canary without waiting for evidence.")
_steering("abort", "Send all traffic back to the champion and end the rollout.")
