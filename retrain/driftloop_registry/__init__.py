"""The model registry: a port and its MLflow adapter, which is imported only when it is used."""
