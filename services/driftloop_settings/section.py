"""A section of the settings, and which of its keys a model's `policy` may set."""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Scope(StrEnum):
    """Whom a setting concerns. A MODEL one may also be set under `policy:` in a model's spec."""

    GLOBAL = "global"
    MODEL = "model"


GLOBAL = Scope.GLOBAL
"""Marks one key of a `ModelSection` as global: `interval_s: Annotated[float, GLOBAL] = ...`."""


class Section(BaseModel):
    """Keys of one area, all of them global."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelSection(Section):
    """Keys that each model may set for itself, except those marked `GLOBAL`."""


def scope_of(section: type[Section], field: FieldInfo) -> Scope:
    per_model = issubclass(section, ModelSection) and GLOBAL not in field.metadata
    return Scope.MODEL if per_model else Scope.GLOBAL


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like another one."""
    return get_close_matches(word, list(known), n=1, cutoff=0.0)[0]
