"""What is in force, and from where."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from driftloop_console.tables import Column, Table
from driftloop_contracts.model import Deployment
from driftloop_settings import Settings
from driftloop_settings.describe import describe_settings
from driftloop_settings.policy import policy_of
from driftloop_settings.shown import without_passwords

COLUMNS = (
    Column("name", "Setting"),
    Column("value", "In force"),
    Column("default", "Default"),
    Column("source", "From"),
    Column("meaning", "Meaning"),
)


def settings_table(settings: Settings, deployments: Sequence[Deployment]) -> Table:
    """Settings that differ from their defaults first, then policies of models, then the rest."""
    rows = []
    for described in describe_settings():
        section = getattr(settings, described.section) if described.section else settings
        value = getattr(section, described.key)
        changed = value != described.default
        given = described.key in section.model_fields_set
        rows.append(
            {
                "name": described.name,
                "value": shown(value),
                "default": shown(described.default),
                "source": "settings file, environment or command line"
                if given and changed
                else "default",
                "meaning": described.meaning,
                "_order": 0 if changed else 2,
            }
        )
    rows += [_own(deployment, *found) for deployment in deployments for found in _given(deployment)]
    rows.sort(key=lambda row: int(row["_order"]))
    return Table("settings", COLUMNS, rows, "There are no settings.")


def _given(deployment: Deployment) -> list[tuple[str, Any]]:
    policy = policy_of(deployment.model)
    return [(f"{s}.{key}", value) for s, given in policy.items() for key, value in given.items()]


def _own(deployment: Deployment, name: str, value: Any) -> dict[str, Any]:
    return {
        "name": name,
        "value": shown(value),
        "default": None,
        "source": f"policy of {deployment.model.name}",
        "meaning": "",
        "_order": 1,
    }


def shown(value: Any) -> str:
    """Secrets stay secret."""
    if isinstance(value, SecretStr):
        return "(secret)"
    if isinstance(value, BaseModel):
        return ", ".join(f"{k}={shown(getattr(value, k))}" for k in type(value).model_fields)
    if isinstance(value, tuple | list):
        return ", ".join(map(shown, value)) or "none"
    return "none" if value is None else without_passwords(str(value))
