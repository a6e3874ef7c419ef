"""Corrects the errors in the OpenAPI documents of both HTTP APIs."""

from typing import Any


def without_422(document: dict[str, Any]) -> dict[str, Any]:
    """Replace FastAPI's status 422 for malformed input by 400, which is used here."""
    for path in document["paths"].values():
        for operation in path.values():
            if operation["responses"].pop("422", None) is not None:
                operation["responses"].setdefault("400", {"description": "Bad Request"})
    return document
