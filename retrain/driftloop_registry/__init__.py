"""The model registry: a port and its MLflow adapter (imported only by who uses it)."""
