"""Describes each setting, based on its class."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from driftloop_settings.section import Scope, Section, scope_of
from driftloop_settings.settings import Settings

SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One setting. meaning: a sentence or more, with the unit. allowed: the values or bounds that
    are checked, such as "≥ 0, < 1"; "" for none. scope: whether a model's `policy` may set it.
    secret: whether it is never shown."""

    section: str
    key: str
    default: Any
    meaning: str
    scope: Scope
    allowed: str = ""
    secret: bool = False

    @property
    def name(self) -> str:
        """The setting as `section.key`."""
        return f"{self.section}.{self.key}" if self.section else self.key


@cache
def describe_settings() -> list[SettingDescription]:
    """Return all settings, in the order of the classes. `section` is "" for `state_dir`."""
    found = []
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            found += [
                _described(name, key, field, scope_of(section, field))
                for key, field in section.model_fields.items()
            ]
        else:
            found.append(_described("", name, info, Scope.GLOBAL))
    return found


def _described(section: str, key: str, field: FieldInfo, scope: Scope) -> SettingDescription:
    meaning = " ".join((field.description or "").split())
    default = field.get_default(call_default_factory=True, validated_data={})
    secret = field.annotation is SecretStr or SecretStr in get_args(field.annotation)
    return SettingDescription(section, key, default, meaning, scope, _allowed(field), secret)


def _allowed(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(get_args(field.annotation))
    return ", ".join(
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in SIGNS.items()
        if getattr(limit, name, None) is not None
    )


@cache
def secret_keys() -> frozenset[str]:
    """Return those that are never shown, as `section.key`."""
    return frozenset(setting.name for setting in describe_settings() if setting.secret)


def known_keys() -> list[str]:
    """Return all settings as `section.key`."""
    return [setting.name for setting in describe_settings()]
