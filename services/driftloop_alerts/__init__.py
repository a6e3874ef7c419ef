"""Incidents from what the watchers find, and their routes to people. ADR 37."""
