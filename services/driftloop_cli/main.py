"""The command `driftloop`. Each command imports what it needs when it runs."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from driftloop_cli import (
    control_commands,
    dead_letter_commands,
    lake_commands,
    lineage_commands,
)
from driftloop_cli.options import (
    AsJson,
    ConfigFile,
    Sets,
    StateDir,
    console,
    emit,
    reported,
    settings_from,
)
from driftloop_contracts.errors import Conflict, Rejected, Unavailable

app = typer.Typer(
    name="driftloop",
    help="Serves models and keeps them good: drift watching, retraining, canary and promotion.",
    epilog="Start with `driftloop demo`, or `driftloop up` and `driftloop deploy MODEL.yaml`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(control_commands.status)
app.command()(control_commands.deploy)
app.command()(control_commands.retrain)
for _command in (
    lake_commands.query,
    lake_commands.labels,
    lake_commands.tail,
    lake_commands.export,
    lineage_commands.lineage,
    lineage_commands.reproduce,
):
    app.command()(_command)
app.command()(dead_letter_commands.dead_letters)
app.add_typer(control_commands.rollout, name="rollout")


def main() -> None:
    app()


@app.command()
def up(
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Return once predictions can be answered; stop with `down`."),
    ] = False,
    timeout_s: Annotated[float, typer.Option(help="Seconds that --detach waits.")] = 300.0,
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run everything on this machine: Kafka, Ray Serve, archiver, monitor, retraining, rollouts.

    What it keeps lies under the state directory; started again, it goes on where it was.
    """
    from driftloop_cli.supervisor import Supervisor

    with reported(as_json):
        if detach:
            emit(_detached(state_dir, sets, config, timeout_s), as_json, lambda: None)
            return
        settings = settings_from(state_dir, sets, config)
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        arguments = _arguments(settings.state_dir, sets, config)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        Supervisor(settings, arguments, say=console.print).run(stop)


def _arguments(state_dir: Path, sets: list[str] | None, config: Path | None) -> list[str]:
    arguments = ["--state-dir", str(state_dir)]
    if config is not None:
        arguments += ["--config", str(config.absolute())]
    for item in sets or ():
        arguments += ["--set", item]
    return arguments


def _detached(
    state_dir: Path | None, sets: list[str] | None, config: Path | None, timeout_s: float
) -> dict[str, Any]:
    """Start `up` in a session of its own and wait until it can answer predictions."""
    from driftloop_cli.run_state import read_run_state

    settings = settings_from(state_dir, sets, config)
    running = read_run_state(settings.state_dir)
    if running is not None and running.supervisor.alive():
        raise Conflict(f"a stack is already running under {settings.state_dir}")
    log = settings.state_dir / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "driftloop_cli", "up"]
    argv += _arguments(settings.state_dir, sets, config)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state = read_run_state(settings.state_dir)
        if state is not None and state.ready and state.supervisor.pid == process.pid:
            return {
                "state_dir": str(settings.state_dir),
                "endpoints": dict(state.endpoints),
                "pid": process.pid,
            }
        if process.poll() is not None:
            raise Unavailable(f"the stack ended at once: {_last_line(log)} (log: {log})")
        time.sleep(0.1)
    process.terminate()
    last = "; ".join(f"{name}: {_last_line(log.parent / f'{name}.log')}" for name in _TO_ANSWER)
    raise Unavailable(
        f"no prediction can be answered after {timeout_s:.0f} s; last log lines: {last}; "
        f"the logs are in {log.parent}"
    )


_TO_ANSWER = ("supervisor", "ray", "serving")
"""Whose logs say why nothing can be answered."""


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else "it wrote nothing"


@app.command()
def down(
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Stop the stack: what was answered is shipped and archived before it ends."""
    from driftloop_cli.supervisor import stop_stack

    with reported(as_json):
        settings = settings_from(state_dir, sets, config)
        stopped = stop_stack(settings.state_dir)
        document = {"stopped": stopped, "state_dir": str(settings.state_dir)}
        emit(
            document,
            as_json,
            lambda: console.print("stopped" if stopped else "nothing was running"),
        )


@app.command()
def role(
    name: Annotated[str, typer.Argument(help="kafka, ray, serving, shipper, archiver, …")],
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run one role in the foreground, for a set-up in which roles run apart."""
    from driftloop_cli.logs import configure_logs
    from driftloop_cli.roles import enter

    with reported(as_json):
        settings = settings_from(state_dir, sets, config)
        configure_logs()
        enter(name, settings)


kafka = typer.Typer(help="The single-node Apache Kafka of this machine.", no_args_is_help=True)
app.add_typer(kafka, name="kafka")


def _kafka_command(name: str, help_text: str) -> None:
    @kafka.command(name, help=help_text)
    def run(
        state_dir: StateDir = None,
        sets: Sets = None,
        config: ConfigFile = None,
        as_json: AsJson = False,
    ) -> None:
        from driftloop_bus import local_kafka

        with reported(as_json):
            document = getattr(local_kafka, name)(settings_from(state_dir, sets, config))
            emit(
                document,
                as_json,
                lambda: console.print("  ".join(f"{k}: {v}" for k, v in document.items())),
            )


_kafka_command("start", "Fetch Apache Kafka if need be, and start a broker on loopback.")
_kafka_command("stop", "Stop the broker.")
_kafka_command("status", "Show whether it runs, where, and its topics.")


@app.command()
def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A parquet or CSV file.")],
    name: Annotated[str, typer.Option(help="The model's name.")],
    label: Annotated[str, typer.Option(help="The column to predict.")],
    output: Annotated[Path, typer.Option(help="Folder for model.yaml and the graph.")],
    task: Annotated[str, typer.Option(help="classification or regression.")] = "classification",
    time_column: Annotated[
        str | None, typer.Option(help="Rows are split in its order; else in the file's.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Columns to leave out; repeatable.")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Families that compete; repeatable.")
    ] = None,
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Train a first version from a file, ready for `driftloop deploy OUTPUT/model.yaml`."""
    with reported(as_json):
        from driftloop_retrain.job.initial_training import train_first

        if task not in ("classification", "regression"):
            raise Rejected(f"--task {task}: it is classification or regression")
        settings = settings_from(state_dir, sets, config)
        document = train_first(
            settings,
            data,
            name=name,
            label=label,
            task=task,
            output=output,
            time_column=time_column,
            drop=tuple(drop or ()),
            families=tuple(family or ()),
            say=lambda message: None if as_json else console.print(message),
        )
        emit(document, as_json, lambda: console.print(f"wrote {document['spec']}"))


@app.command()
def doctor(
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine and the settings for what driftloop needs, and say what to do."""
    from driftloop_cli.doctor import examine

    with reported(as_json):
        checks = examine(settings_from(state_dir, sets, config))

        def show() -> None:
            for check in checks:
                mark = "[green]ok[/green]  " if check["ok"] else "[red]fail[/red]"
                console.print(f"{mark} {check['name']}: {check['detail']}")

        emit({"ok": all(c["ok"] for c in checks), "checks": checks}, as_json, show)
        if not all(check["ok"] for check in checks):
            raise typer.Exit(1)


@app.command()
def demo(
    scenario: Annotated[
        str | None,
        typer.Option(
            help="drift (with --llm: feedback): the whole loop. "
            "bad-candidate: a harmful one is rolled back."
        ),
    ] = None,
    llm: Annotated[
        bool,
        typer.Option(
            "--llm", help="A language model instead, which learns what its users want: ten minutes."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Changes training and traffic.")] = 0,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write the summary here; - for standard output."
        ),
    ] = None,
    state_dir: StateDir = None,
    sets: Sets = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack running at the end.")
    ] = False,
) -> None:
    """Watch the loop close: a model is served, drift comes, an alert, a retrain, a canary, a
    promotion.

    Real parts and a real data set; it takes about two minutes on two cores. With --llm a small
    language model is served; users rate and correct its answers, it is fine-tuned, and the adapter
    canaried.
    """
    import json

    if llm:
        from driftloop_demo.language_demo import SCENARIOS
        from driftloop_demo.language_demo import run_language_demo as run
    else:
        from driftloop_demo.demo import SCENARIOS
        from driftloop_demo.demo import run_demo as run

    with reported(as_json=False):
        scenario = scenario or SCENARIOS[0]
        if scenario not in SCENARIOS:
            raise Rejected(f"--scenario {scenario}: there are {', '.join(SCENARIOS)}")
        # As after Ctrl-C: the stack is stopped. Not by way of SIGINT, which shells have their
        # background ignore.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        summary = run(
            scenario,
            seed,
            state_dir=state_dir,
            sets=tuple(sets or ()),
            keep=keep,
            say=console.print,
        )
        text = json.dumps(summary, indent=2) + "\n"
        if json_file is not None and str(json_file) == "-":
            sys.stdout.write(text)
        elif json_file is not None:
            json_file.write_text(text)
        if not summary["ok"]:
            raise typer.Exit(1)


@app.command()
def settings(
    state_dir: StateDir = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the settings in force (passwords are hidden)."""
    with reported(as_json):
        document = settings_from(state_dir, sets, config).model_dump(mode="json")

        def show() -> None:
            import yaml

            sys.stdout.write(yaml.safe_dump(document, sort_keys=False))

        emit(document, as_json, show)
