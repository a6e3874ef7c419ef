"""The operators' web pages, rendered on the server from the store's records (ADR 38)."""
