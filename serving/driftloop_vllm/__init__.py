"""Language models on vLLM. Only the module `engine` imports vLLM."""
