"""Language models on vLLM. Importing this package imports no vLLM; only `engine` does."""
