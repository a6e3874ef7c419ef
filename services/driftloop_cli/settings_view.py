"""The command `settings`: the effective values, of the stack or for one model."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftloop_cli.options import Invocation, stack_command
from driftloop_contracts.errors import NotFound

if TYPE_CHECKING:
    from driftloop_contracts.model import ModelSpec
    from driftloop_settings import LoadedSettings


@stack_command
def settings(
    run: Invocation,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Only the settings of this deployed model, with sources."
        ),
    ] = None,
) -> None:
    """Show the settings in force (passwords are hidden)."""
    import yaml

    from driftloop_settings import read_settings
    from driftloop_settings.shown import shown_settings

    if model is None:
        document = shown_settings(run.settings)
        run.emit(document, lambda: _write(yaml.safe_dump(document, sort_keys=False)))
        return
    loaded = read_settings(run.sets, state_dir=run.state_dir, file=run.config)
    rows = model_settings(loaded, _spec(run, model))

    def show() -> None:
        widths = [max(len(str(row[key])) for row in rows) for key in ("setting", "value")]
        for row in rows:
            setting, value = row["setting"].ljust(widths[0]), str(row["value"]).ljust(widths[1])
            _write(f"{setting}  {value}  {row['source']}\n")

    run.emit(rows, show)


def model_settings(loaded: "LoadedSettings", spec: "ModelSpec") -> list[dict[str, Any]]:
    """Each setting that a policy may hold: its value for this model, and its source: `policy`, the
    file, variable or option that says so, or `default`."""
    from driftloop_settings import Scope, describe_settings, policy_keys
    from driftloop_settings.shown import shown_settings

    own = set(policy_keys(spec))
    values = shown_settings(loaded.settings.for_model(spec))
    return [
        {
            "setting": setting.name,
            "value": values[setting.section][setting.key],
            "source": "policy"
            if setting.name in own
            else loaded.sources.get(setting.name, "default"),
        }
        for setting in describe_settings()
        if setting.scope is Scope.MODEL
    ]


def _spec(run: Invocation, name: str) -> "ModelSpec":
    from driftloop_cli.control_client import ControlClient
    from driftloop_contracts.model import ModelSpec

    deployed = ControlClient(run.folder).get("/api/models")
    for deployment in deployed:
        if deployment["model"]["name"] == name:
            return ModelSpec.from_dict(deployment["model"])
    raise NotFound(f"no model {name!r} is deployed")


def _write(text: str) -> None:
    sys.stdout.write(text)
