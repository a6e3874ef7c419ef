"""Settings of every role, from `driftloop.toml`, the environment and `--set`, in rising order."""

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
