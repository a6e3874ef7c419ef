"""Settings of every role, from `driftloop.toml`, the environment and `--set`, in rising order.

Names are imported when they are first asked for: reading settings takes pydantic, and commands use
modules of this package that need none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftloop_settings.describe import SettingDescription, describe_settings
    from driftloop_settings.language_sections import JudgeSettings, LlmSettings, TuningSettings
    from driftloop_settings.loading import LoadedSettings, load_settings, read_settings
    from driftloop_settings.loop_sections import (
        MonitoringSettings,
        RetrainSettings,
        RolloutSettings,
        TriggerSettings,
    )
    from driftloop_settings.policy import policy_keys
    from driftloop_settings.section import Scope
    from driftloop_settings.serving_sections import CaptureSettings, ServingSettings
    from driftloop_settings.settings import Settings
    from driftloop_settings.storage_sections import (
        ControlSettings,
        KafkaSettings,
        LakeSettings,
        RegistrySettings,
        StoreSettings,
    )

_MODULES = {
    "CaptureSettings": "serving_sections",
    "ControlSettings": "storage_sections",
    "JudgeSettings": "language_sections",
    "KafkaSettings": "storage_sections",
    "LakeSettings": "storage_sections",
    "LlmSettings": "language_sections",
    "LoadedSettings": "loading",
    "MonitoringSettings": "loop_sections",
    "RegistrySettings": "storage_sections",
    "RetrainSettings": "loop_sections",
    "RolloutSettings": "loop_sections",
    "Scope": "section",
    "ServingSettings": "serving_sections",
    "SettingDescription": "describe",
    "Settings": "settings",
    "StoreSettings": "storage_sections",
    "TriggerSettings": "loop_sections",
    "TuningSettings": "language_sections",
    "describe_settings": "describe",
    "load_settings": "loading",
    "policy_keys": "policy",
    "read_settings": "loading",
}

__all__ = [
    "CaptureSettings",
    "ControlSettings",
    "JudgeSettings",
    "KafkaSettings",
    "LakeSettings",
    "LlmSettings",
    "LoadedSettings",
    "MonitoringSettings",
    "RegistrySettings",
    "RetrainSettings",
    "RolloutSettings",
    "Scope",
    "ServingSettings",
    "SettingDescription",
    "Settings",
    "StoreSettings",
    "TriggerSettings",
    "TuningSettings",
    "describe_settings",
    "load_settings",
    "policy_keys",
    "read_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
