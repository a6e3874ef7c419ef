"""A model's `policy`: its own values of settings, validated by the settings' classes.

In a spec it is a mapping of sections, `{rollout: {steps: [0.2]}}`. ADR 21.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_settings.section import (
    ModelSection,
    Scope,
    Section,
    first_problem,
    nearest,
    scope_of,
)


def policy_of(spec: ModelSpec) -> Mapping[str, Any]:
    """Return the spec's policy. Specs of earlier versions have `options.tune` in place of
    `policy.tuning`."""
    former = spec.options.get("tune")
    own = spec.policy.get("tuning", {})
    if not isinstance(former, Mapping) or not isinstance(own, Mapping):
        return spec.policy
    return {**spec.policy, "tuning": {**former, **own}}


def policy_keys(spec: ModelSpec) -> list[str]:
    """Return the keys that a valid policy sets, as `section.key`."""
    return [f"{name}.{key}" for name, given in policy_of(spec).items() for key in given]


def own_sections(settings: BaseModel, policy: Mapping[str, Any]) -> dict[str, Section]:
    """Return the sections of the settings that the policy changes, with the policy's values.

    Raises Rejected with the full key if it is unknown (naming the nearest one), is global, or has
    an invalid value.
    """
    found: dict[str, Section] = {}
    for name, given in policy.items():
        section = getattr(settings, str(name), None)
        if not isinstance(section, ModelSection):
            raise Rejected(_no_such_section(settings, str(name)))
        if not isinstance(given, Mapping):
            raise Rejected(f"policy.{name} must be a mapping of its settings, not {given!r}")
        for key in given:
            _check_key(name, str(key), section)
        try:
            found[name] = type(section)(**{**section.model_dump(), **given})
        except ValidationError as error:
            raise Rejected(first_problem(error, "policy", name)) from None
    return found


def _check_key(name: str, key: str, section: ModelSection) -> None:
    fields = type(section).model_fields
    if key not in fields:
        own = [key for key, info in fields.items() if scope_of(type(section), info) is Scope.MODEL]
        raise Rejected(
            f"unknown setting `policy.{name}.{key}`; did you mean "
            f"`policy.{name}.{nearest(key, own)}`?"
        )
    if scope_of(type(section), fields[key]) is Scope.GLOBAL:
        raise Rejected(
            f"`policy.{name}.{key}` is global: it applies to all models and is set as "
            f"`{name}.{key}` in the settings"
        )


def _no_such_section(settings: BaseModel, name: str) -> str:
    if name in type(settings).model_fields:
        return f"`policy.{name}` is global: it applies to all models and is set in the settings"
    known = list(_model_keys(settings))
    sections = {key.partition(".")[0] for key in known}
    return (
        f"unknown setting `policy.{name}`; did you mean "
        f"`policy.{nearest(name, [*sections, *known])}`?"
    )


def _model_keys(settings: BaseModel) -> Iterator[str]:
    for name in type(settings).model_fields:
        section = getattr(settings, name)
        if isinstance(section, ModelSection):
            for key, info in type(section).model_fields.items():
                if scope_of(type(section), info) is Scope.MODEL:
                    yield f"{name}.{key}"
