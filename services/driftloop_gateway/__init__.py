"""The REST control API, used by the console and the command line, and feedback."""
