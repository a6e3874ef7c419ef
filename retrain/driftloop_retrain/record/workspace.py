"""Where a retrain keeps what it needs to go on after it was killed."""

from pathlib import Path

from driftloop_settings import Settings


def work_folder(settings: Settings, retrain_id: str) -> Path:
    """It is gone once the retrain is over."""
    return settings.state_dir / "retrains" / retrain_id
