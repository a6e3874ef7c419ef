"""The REST control API: what the console and the command line do, and feedback."""
