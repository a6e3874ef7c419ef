"""Settings of every role, from `driftloop.toml`, the environment and `--set`, in rising order."""

from driftloop_settings.settings import ServingSettings, Settings, load_settings

__all__ = ["ServingSettings", "Settings", "load_settings"]
