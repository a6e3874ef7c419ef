"""docs/reference/settings.md, from the classes of `driftloop_settings`."""

from itertools import groupby
from typing import Any

from layout import page, table

from driftloop_settings import Scope, describe_settings

INTRODUCTION = """\
Write a setting as `key = value` under its `[section]` in `driftloop.toml`, as the environment
variable `DRIFTLOOP_SECTION__KEY`, or as `--set section.key=value`; a later source wins. Names end
in their unit: `_s` and `_seconds` are seconds, `_hours` hours, `_days` days, `_bytes` bytes, `_mb`
megabytes. `driftloop settings` shows the values in force.

A setting *per model* may also be set under `policy` in a model's spec, for that model alone (see
[Deploy a model](../guides/deploy-a-model.md)); `driftloop settings --model NAME` shows the
values for it. A *global* one may not."""
SCOPES = {Scope.GLOBAL: "global", Scope.MODEL: "per model"}


def render() -> str:
    parts = []
    for section, settings in groupby(describe_settings(), key=lambda s: s.section):
        rows = [
            (f"`{s.key}`", default(s.default), s.allowed, SCOPES[s.scope], s.meaning)
            for s in settings
        ]
        heading = f"## `[{section}]`" if section else "## Top level"
        parts += [heading, table(("key", "default", "allowed", "scope", "meaning"), rows)]
    return page("Settings", INTRODUCTION, *parts)


def default(value: Any) -> str:
    return "none" if value is None else f"`{value}`"
