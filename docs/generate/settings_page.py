"""docs/reference/settings.md, from the classes of `driftloop_settings`."""

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from layout import page, table
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from driftloop_settings import Settings

INTRODUCTION = """\
Write a setting as `key = value` under its `[section]` in `driftloop.toml`, as the environment
variable `DRIFTLOOP_SECTION__KEY`, or as `--set section.key=value`; a later source wins. Names end
in their unit: `_s` and `_seconds` are seconds, `_hours` hours, `_days` days, `_bytes` bytes, `_mb`
megabytes. `driftloop settings` shows the values in force."""


def render() -> str:
    parts = []
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if inspect.isclass(section) and issubclass(section, BaseModel):
            meanings = docstrings(section)
            rows = [
                (f"`{key}`", default(value), bounds(value), meanings.get(key, ""))
                for key, value in section.model_fields.items()
            ]
            parts += [f"## `[{name}]`", table(("key", "default", "allowed", "meaning"), rows)]
    return page("Settings", INTRODUCTION, *parts)


def docstrings(section: type[BaseModel]) -> dict[str, str]:
    """The text below each field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, text in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[ast.unparse(field.target)] = str(text.value.value)
    return found


def default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{value}`"


def bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}  # fmt: skip
    limits = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(limits)
