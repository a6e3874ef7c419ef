"""A section of the settings, and which of its keys a model's `policy` may set."""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any
from unicodedata import category

from pydantic import (
    BaseModel,
    ConfigDict,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo


class Scope(StrEnum):
    """What a setting applies to. A MODEL setting may also be set under `policy:` in a model's
    spec."""

    GLOBAL = "global"
    MODEL = "model"


MOST_YEARS = 100
UNITS = {"_s": 1, "_seconds": 1, "_hours": 3_600, "_days": 86_400}
"""The seconds of a duration's unit, by the suffix of its name."""
MOST_NUMBER = 10**15


def check_usable(name: str, value: Any) -> None:
    """Raises ValueError for a value of the right type that no role could use: a duration that
    overflows times, a number that does not fit databases, or a text that is blank or has control
    characters."""
    if isinstance(value, tuple):
        for item in value:
            check_usable(name, item)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str | Path):
        _check_text(str(value))
    elif isinstance(value, int | float):
        unit = next((s for end, s in UNITS.items() if name.endswith(end)), None)
        if unit is not None and value * unit > MOST_YEARS * 365 * 86_400:
            raise ValueError(f"{value:g} is longer than {MOST_YEARS} years")
        if abs(value) > MOST_NUMBER:
            raise ValueError(f"{value:g} is beyond {MOST_NUMBER:g}")


def _check_text(text: str) -> None:
    if text and not text.strip():
        raise ValueError("it is blank; omit the setting, or write null, for no value")
    if any(category(letter) == "Cc" for letter in text):
        raise ValueError(f"{text!r} has control characters")


GLOBAL = Scope.GLOBAL
"""Marks one key of a `ModelSection` as global: `interval_s: Annotated[float, GLOBAL] = ...`."""


class Section(BaseModel):
    """The keys of one area, all of them global."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _usable(cls, value: Any, info: ValidationInfo) -> Any:
        check_usable(str(info.field_name), value)
        return value


class ModelSection(Section):
    """Keys that each model may set for itself, except those marked `GLOBAL`."""


def scope_of(section: type[Section], field: FieldInfo) -> Scope:
    per_model = issubclass(section, ModelSection) and GLOBAL not in field.metadata
    return Scope.MODEL if per_model else Scope.GLOBAL


def first_problem(error: ValidationError, *above: str) -> str:
    """Return `section.key: what is wrong`, without pydantic's prefixes. above: the location of the
    validated value."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in (*above, *first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        said = "there is no such setting"
    return f"{place}: {said}" if place else said


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word most similar to `word`."""
    return get_close_matches(word, list(known), n=1, cutoff=0.0)[0]
