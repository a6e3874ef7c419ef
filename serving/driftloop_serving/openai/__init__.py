"""OpenAI's API, in front of language models."""
