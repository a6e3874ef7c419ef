"""The records of a retrain: progress, pinned data, lineage."""
