"""The command `driftloop`. Each command imports its dependencies when it runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from driftloop_cli import (
    alert_commands,
    artifact_commands,
    control_commands,
    dead_letter_commands,
    lake_commands,
    lineage_commands,
    log_commands,
    migration,
    recipe_commands,
    retrain_commands,
    settings_view,
)
from driftloop_cli.options import (
    Insecure,
    Invocation,
    Sets,
    StateDir,
    logged,
    reported,
    stack_command,
)
from driftloop_cli.plain_parameters import parse_plain_parameters
from driftloop_cli.terminal import console, styled
from driftloop_contracts.errors import Conflict, DriftloopError, Rejected, Unavailable
from driftloop_contracts.loopback import exempt_loopback
from driftloop_settings.locale_encoding import adopt_utf8, start_anew
from driftloop_settings.private_files import private_folder

app = typer.Typer(
    name="driftloop",
    help="Serve models, watch live traffic, retrain, canary and promote.",
    epilog="Start with `driftloop demo`, or `driftloop up` and `driftloop deploy MODEL.yaml`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its formatter takes longer to import than all the rest
    add_completion=False,
)
app.command()(control_commands.status)
app.command()(control_commands.metrics)
app.command()(control_commands.deploy)
app.command()(control_commands.remove)
app.command()(control_commands.retrain)
for _command in (
    lake_commands.query,
    lake_commands.labels,
    lake_commands.tail,
    lake_commands.export,
    lineage_commands.lineage,
    lineage_commands.report,
    lineage_commands.reproduce,
    recipe_commands.check_recipe,
):
    app.command()(_command)
app.command()(dead_letter_commands.dead_letters)
app.command()(settings_view.settings)
app.command()(migration.migrate)
app.command()(log_commands.logs)
app.command()(log_commands.bundle)
app.add_typer(retrain_commands.retrains, name="retrains")
app.add_typer(control_commands.rollout, name="rollout")
app.add_typer(alert_commands.alerts, name="alerts")
app.add_typer(artifact_commands.artifacts, name="artifacts")


def main() -> None:
    if adopt_utf8(os.environ):
        start_anew(os.environ)
    exempt_loopback(os.environ)  # before any library reads it; roles and their children inherit it
    parse_plain_parameters()
    app()


@app.command()
@stack_command
def up(
    run: Invocation,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Return once predictions can be answered; stop with `down`."),
    ] = False,
    timeout_s: Annotated[float, typer.Option(help="Seconds that --detach waits.")] = 300.0,
    insecure: Insecure = False,
    roles: Annotated[
        str | None,
        typer.Option(
            "--roles",
            metavar="NAME,NAME",
            help="Run only these, `serving` among them, where others run elsewhere. [default: all]",
        ),
    ] = None,
) -> None:
    """Run everything on this machine: Kafka, Ray Serve, archiver, monitor, retraining, rollouts.

    All files are under the state directory; started again, it resumes where it stopped.
    """
    from driftloop_cli.supervisor import Supervisor, refuse_wrong_start
    from driftloop_settings.stop_signal import stop_on_signals

    run = run.with_insecure(insecure)
    only = None if roles is None else [name.strip() for name in roles.split(",")]
    refuse_wrong_start(run.settings, only)
    if detach:
        started = _detached(run, timeout_s, [] if roles is None else ["--roles", roles])
        run.emit(started, lambda: console.print(f"console: {started['endpoints']['control']}/"))
        return
    settings = run.settings
    private_folder(settings.state_dir)
    stop = threading.Event()
    stop_on_signals(stop)
    Supervisor(settings, say=console.print, only=only).run(stop)


def _arguments(run: Invocation) -> list[str]:
    """Return the options for running another command on the same stack."""
    arguments = ["--state-dir", str(run.folder)]
    if run.config is not None:
        arguments += ["--config", str(run.config.absolute())]
    for item in run.sets:
        arguments += ["--set", item]
    return arguments


def _detached(run: Invocation, timeout_s: float, options: list[str]) -> dict[str, Any]:
    """Start `up` in a new session and wait until it can answer predictions."""
    from driftloop_cli.supervisor import refuse_taken_ports
    from driftloop_settings.run_state import read_run_state

    settings = run.settings
    running = read_run_state(settings.state_dir)
    if running is not None and running.supervisor.alive():
        raise Conflict(f"a stack is already running under {settings.state_dir}")
    refuse_taken_ports(settings)
    log = settings.state_dir / "logs" / "supervisor.log"
    private_folder(settings.state_dir)
    log.parent.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "driftloop_cli", "up", *options]
    argv += _arguments(run)
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
            raise Unavailable(f"the stack ended during its start: {_last_line(log)} (log: {log})")
        time.sleep(0.1)
    process.terminate()
    last = "; ".join(f"{name}: {_last_line(log.parent / f'{name}.log')}" for name in _TO_ANSWER)
    raise Unavailable(
        f"predictions cannot be answered after {timeout_s:.0f} s; last log lines: {last}; "
        f"the logs are in {log.parent}"
    )


_TO_ANSWER = ("supervisor", "ray", "serving")
"""The roles whose logs explain why predictions cannot be answered."""


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else "it wrote nothing"


@app.command()
@stack_command
def down(
    run: Invocation,
) -> None:
    """Stop the stack, after all answered predictions are shipped and archived."""
    from driftloop_cli.supervisor import stop_stack

    stopped = stop_stack(run.folder)
    document = {"stopped": stopped, "state_dir": str(run.folder)}
    run.emit(
        document,
        lambda: console.print("stopped" if stopped else "nothing was running"),
    )


@app.command()
@stack_command
def role(
    run: Invocation,
    name: Annotated[str, typer.Argument(help="kafka, ray, serving, shipper, archiver, …")],
    insecure: Insecure = False,
) -> None:
    """Run one role in the foreground, for a set-up with roles on several machines."""
    import structlog

    from driftloop_cli.roles import enter
    from driftloop_settings.logs import configure_logs

    settings = run.with_insecure(insecure).settings
    configure_logs()
    private_folder(settings.state_dir)
    try:
        enter(name, settings)
    except DriftloopError:
        raise
    except Exception:  # where a role runs by itself, people look at its output
        structlog.get_logger().exception("role.failed", role=name)
        raise


kafka = typer.Typer(help="The single-node Apache Kafka of this machine.", no_args_is_help=True)
app.add_typer(kafka, name="kafka")


def _kafka_command(name: str, help_text: str) -> None:
    @kafka.command(name, help=help_text)
    @stack_command
    def run(
        run: Invocation,
    ) -> None:
        from driftloop_bus import local_kafka

        document = getattr(local_kafka, name)(run.settings)
        run.emit(
            document,
            lambda: console.print("  ".join(f"{k}: {v}" for k, v in document.items())),
        )


_kafka_command("start", "Download Apache Kafka if necessary, and start a broker on loopback.")
_kafka_command("stop", "Stop the broker.")
_kafka_command("status", "Show whether the broker runs, its address and its topics.")


@app.command()
@stack_command
@logged
def train(
    run: Invocation,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A parquet or CSV file.")],
    name: Annotated[str, typer.Option(help="The model's name.")],
    label: Annotated[
        list[str], typer.Option(help="The column to predict; repeatable: outputs of one model.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for model.yaml and the graph.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="classification (the default) or regression; of one label, LABEL=TASK."),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(help="Rows are split in the order of this column; default: of the file."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Columns to leave out; repeatable.")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Families of models that compete; repeatable.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="The separator of a CSV file. [default: detected]")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Its encoding, such as latin-1.  [default: detected]")
    ] = None,
    decimal: Annotated[
        str | None, typer.Option(help="Its decimal mark, . or ,  [default: detected]")
    ] = None,
) -> None:
    """Train a first version from a file, ready for `driftloop deploy OUTPUT/model.yaml`."""
    from driftloop_retrain.tabular.csv_file import CsvForm
    from driftloop_retrain.tabular.initial_training import tasks_said, train_first

    document = train_first(
        run.settings,
        data,
        name=name,
        label=label,
        task=tasks_said(task or []),
        output=output,
        time_column=time_column,
        drop=tuple(drop or ()),
        families=tuple(family or ()),
        say=lambda message: None if run.as_json else console.print(message),
        form=CsvForm(separator, encoding, decimal),
    )
    run.emit(document, lambda: console.print(f"wrote {document['spec']}"))


@app.command()
@stack_command
@logged
def doctor(
    run: Invocation,
    role: Annotated[
        str | None,
        typer.Option("--role", help="Only what this role needs and reaches: serving, monitor, …"),
    ] = None,
) -> None:
    """Check this machine and the settings against driftloop's requirements, and say what to do."""
    from driftloop_cli.doctor import examine
    from driftloop_cli.roles import role_of

    checks = examine(run.settings, role and role_of(role).name)

    def show() -> None:
        for check in checks:
            mark = ("ok  ", "green") if check["ok"] else ("fail", "red")
            console.print(styled(mark, f" {check['name']}: {check['detail']}"))

    run.emit({"ok": all(c["ok"] for c in checks), "checks": checks}, show)
    if not all(check["ok"] for check in checks):
        raise typer.Exit(1)


@app.command()
def demo(
    scenario: Annotated[
        str | None,
        typer.Option(
            help="drift (with --llm: feedback): the whole loop. "
            "rare: one row in 200 is positive; the recall collapses, the accuracy hardly moves. "
            "bad-candidate: a harmful candidate ends in the shadow."
        ),
    ] = None,
    llm: Annotated[
        bool,
        typer.Option(
            "--llm", help="Run with a language model that learns what its users want (ten minutes)."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Varies training and traffic.")] = 0,
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
    """Run the whole loop: a model is served, drift is injected, and an alert, a retrain, a canary
    and a promotion follow.

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

    invocation = Invocation(state_dir, tuple(sets or ()))
    with reported(invocation):
        _ = invocation.settings  # if one is wrong, refused before any work
        scenario = scenario or SCENARIOS[0]
        if scenario not in SCENARIOS:
            raise Rejected(f"--scenario {scenario}: must be one of {', '.join(SCENARIOS)}")
        # Like Ctrl-C, which stops the stack. SIGINT is not sufficient: shells make background jobs
        # ignore it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        summary = run(
            scenario,
            seed,
            state_dir=state_dir,
            sets=invocation.sets,
            keep=keep,
            say=lambda *parts: console.print(styled(*parts)),
        )
        text = json.dumps(summary, indent=2) + "\n"
        if json_file is not None and str(json_file) == "-":
            sys.stdout.write(text)
        elif json_file is not None:
            json_file.write_text(text)
        if not summary["ok"]:
            raise typer.Exit(1)
