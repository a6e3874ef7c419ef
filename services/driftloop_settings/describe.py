"""What each setting means, read from its class."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from driftloop_settings.section import Scope, Section, scope_of
from driftloop_settings.settings import Settings


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """meaning: a sentence or more, with the unit. choices: the only values it takes, if they are
    listed. scope: whether a model's `policy` may set it."""

    section: str
    key: str
    default: Any
    meaning: str
    scope: Scope
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it is written, `section.key`."""
        return f"{self.section}.{self.key}" if self.section else self.key


@cache
def describe_settings() -> list[SettingDescription]:
    """Every setting, in the order of the classes. `section` is "" for `state_dir`."""
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
    choices: tuple[str, ...] = ()
    if get_origin(field.annotation) is Literal:
        choices = get_args(field.annotation)
    meaning = " ".join((field.description or "").split())
    return SettingDescription(section, key, field.default, meaning, scope, choices)


def known_keys() -> list[str]:
    """Every setting as `section.key`."""
    return [setting.name for setting in describe_settings()]


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like another one."""
    return get_close_matches(word, list(known), n=1, cutoff=0.0)[0]
