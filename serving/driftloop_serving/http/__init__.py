"""The HTTP port: parser, REST API, feedback."""
