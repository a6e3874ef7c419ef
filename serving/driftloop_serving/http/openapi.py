"""The OpenAPI description. The API reads bodies itself, with size limits and regardless of their
content type, so their models are described here."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from driftloop_http.openapi import without_422
from driftloop_serving.http import rest_documents as documents

REFERENCE = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    documents.IndexRequest,
    documents.LoadRequest,
    documents.InferRequest,
    documents.PredictRequest,
    documents.Label,
    documents.LanguageRequest,
)


def errors(
    *statuses: int, model: type[BaseModel] = documents.Error
) -> dict[int | str, dict[str, Any]]:
    """Return the error entries of a route's `responses`."""
    return {status: {"model": model} for status in statuses}


def body(model: type[BaseModel], *, required: bool, or_list: bool = False) -> dict[str, Any]:
    """Return the body's description for a route's `openapi_extra`."""
    schema: dict[str, Any] = {"$ref": REFERENCE.format(model=model.__name__)}
    if or_list:
        schema = {"anyOf": [schema, {"type": "array", "items": schema}]}
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


def describe(app: FastAPI) -> None:
    """Complete the application's description; it is generated on first access."""

    def written() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, defined = models_json_schema(
                [(model, "validation") for model in BODIES], ref_template=REFERENCE
            )
            document["components"]["schemas"] |= defined["$defs"]
            app.openapi_schema = without_422(document)
        return app.openapi_schema

    app.openapi = written  # type: ignore[method-assign]  # FastAPI's own way
