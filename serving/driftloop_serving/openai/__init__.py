"""OpenAI's API for language models."""
