"""What both HTTP APIs say of their errors in their OpenAPI documents."""

from typing import Any


def without_422(document: dict[str, Any]) -> dict[str, Any]:
    """The document without FastAPI's status for malformed input, which is 400 here."""
    for path in document["paths"].values():
        for operation in path.values():
            if operation["responses"].pop("422", None) is not None:
                operation["responses"].setdefault("400", {"description": "Bad Request"})
    return document
