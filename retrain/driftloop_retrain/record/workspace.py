"""The folder with what a retrain needs to resume after it was killed."""

from pathlib import Path

from driftloop_settings import Settings


def work_folder(settings: Settings, retrain_id: str) -> Path:
    """Return the work folder, which is removed when the retrain has ended."""
    return settings.state_dir / "retrains" / retrain_id


def work_lock(settings: Settings, retrain_id: str) -> Path:
    """Return the file that the process of the retrain holds a lock on."""
    return work_folder(settings, retrain_id).with_suffix(".lock")
