"""Watching language models: texts become descriptors, plain numbers and categories, which are judged as
any other columns; prompts are compared as texts, too."""
