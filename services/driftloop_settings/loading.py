"""Loads settings from `driftloop.toml`, the environment and `--set`.

A value's key is `section.key`: in `driftloop.toml` below `[section]`, in the environment as
`DRIFTLOOP_SECTION__KEY`, on the command line as `--set section.key=value` (later sources have
priority). Names of durations end with `_s` (seconds) or `_hours`, sizes with `_bytes` or `_mb`.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from driftloop_contracts.errors import Rejected
from driftloop_settings.describe import known_keys, secret_keys
from driftloop_settings.language_sections import JudgeSettings, TuningSettings
from driftloop_settings.section import first_problem, nearest
from driftloop_settings.settings import Settings
from driftloop_settings.state_path import (
    CONTROL_URL,
    DEFAULT_FILE,
    ENV_PREFIX,
    absolute_state_dir,
)

MOVED = {f"llm.tune_{key}": f"tuning.{key}" for key in TuningSettings.model_fields} | {
    f"llm.judge_{key}": f"judge.{key}" for key in JudgeSettings.model_fields
}
"""New keys by their names in earlier versions."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings with their sources: by `section.key` the file, environment variable or option that
    set it; defaults are absent."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(
    overrides: Sequence[str] = (),
    *,
    state_dir: Path | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings of `read_settings`."""
    return read_settings(overrides, state_dir=state_dir, file=file, environ=environ).settings


def read_settings(
    overrides: Sequence[str] = (),
    *,
    state_dir: Path | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> LoadedSettings:
    """Read settings from `file` (default `driftloop.toml`, if it exists), `environ` and `overrides`
    (`section.key=value`, values in YAML), and the source of each. `state_dir` overrides them all;
    it is returned as an absolute path. Raises Rejected, naming the source, the key and the nearest
    known one."""
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value, source in _given(overrides, file, environ):
        _put(merged, key, value, source)
        sources[key] = source
    if state_dir is not None:
        merged["state_dir"], sources["state_dir"] = state_dir, "--state-dir"
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise Rejected(f"setting {first_problem(error)}") from None
    _check_ports(settings)
    absolute = absolute_state_dir(settings.state_dir)
    return LoadedSettings(settings.model_copy(update={"state_dir": absolute}), sources)


def _check_ports(settings: Settings) -> None:
    """Raises Rejected if two servers of this machine are configured with the same port."""
    serving, kafka = settings.serving, settings.kafka
    ports = {
        "serving.port": serving.port,
        "serving.grpc_port": serving.grpc_port,
        "control.port": settings.control.port,
        "kafka.port": 0 if kafka.bootstrap_servers else kafka.port,
        "serving.ray_port": 0 if serving.ray_address else serving.ray_port,
    }
    taken: dict[int, str] = {}
    for key, port in ports.items():
        if port and taken.setdefault(port, key) != key:
            raise Rejected(f"setting {key}: {taken[port]} is {port} too; give each its own port")


def _given(
    overrides: Sequence[str], file: Path | None, environ: Mapping[str, str]
) -> Iterator[tuple[str, Any, str]]:
    """Yield (key, value, source), with the highest priority last."""
    path = file or DEFAULT_FILE
    if file is not None or path.is_file():
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Rejected(f"settings file {path}: {error}") from None
        for key, value in _leaves(document):
            yield key, value, str(path)
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and name != CONTROL_URL:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            # A password may look like YAML, such as 123 or #x.
            value = (text or None) if key in secret_keys() else _value(text)
            yield key, value, f"environment variable {name}"
    for item in overrides:
        key, found, text = item.partition("=")
        if not found:
            raise Rejected(f"--set {item}: write section.key=value")
        yield key.strip(), _value(text), f"--set {key.strip()}"


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield prefix + key, item


def _put(target: dict[str, Any], key: str, value: Any, source: str) -> None:
    if key in MOVED:
        raise Rejected(f"{source}: `{key}` is `{MOVED[key]}` now")
    known = known_keys()
    if key not in known:
        raise Rejected(f"{source}: unknown setting `{key}`; did you mean `{nearest(key, known)}`?")
    section, _, name = key.rpartition(".")
    (target.setdefault(section, {}) if section else target)[name] = value
