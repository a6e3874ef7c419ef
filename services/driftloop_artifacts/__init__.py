"""The files that roles on several machines share: kept by content, fetched into a local cache."""

from driftloop_artifacts.artifacts import IN_PLACE, Artifacts, Files, open_artifacts

__all__ = ["IN_PLACE", "Artifacts", "Files", "open_artifacts"]
