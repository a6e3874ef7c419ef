"""The lake: Delta tables of predictions and labels, written exactly once, read with DuckDB."""
