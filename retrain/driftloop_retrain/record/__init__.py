"""What a retrain writes down: progress, pinned data, lineage."""
