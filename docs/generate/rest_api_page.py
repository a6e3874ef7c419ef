"""docs/reference/rest-api.md, from the OpenAPI documents of both ports."""

from typing import Any
from unittest.mock import Mock

from layout import page, table

from driftloop_gateway.app import make_app
from driftloop_serving.http.rest_api import make_rest_api
from driftloop_settings import Settings

INTRODUCTION = """\
`driftloop status` shows the addresses. [Send predictions and labels](../guides/send-labels.md)
explains headers, binary tensors and gRPC.

Bodies may be sent with `content-encoding` gzip or deflate; other encodings are answered with 415.
Limits hold for what a body decodes to. HEAD is answered as GET without a body, OPTIONS with
`Allow`. Pages of the origins in `control.cors_origins` may call both ports from a browser (CORS);
by default none may. What nobody foresaw is answered with 500 and an id, which finds the cause in
the log: `grep ID STATE/logs/*`."""


def render() -> str:
    # Routes are only described here: what they call is never reached.
    serving = make_rest_api(Mock(), Mock(), Mock(), Mock(), body_limit_bytes=1)
    control = make_app(Mock(settings=Settings()))
    parts = []
    for title, where, app in (
        ("Serving port", "/openapi.json", serving),
        ("Control API", "/api/openapi.json", control),
    ):
        document = app.openapi()
        parts += [f"## {title}", f"OpenAPI at `{where}`.", routes(document), "", *bodies(document)]
    return page("REST API", INTRODUCTION, *parts)


def routes(document: dict[str, Any]) -> str:
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            text = operation.get("description") or operation.get("summary") or ""
            query = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            answers = ", ".join(sorted(operation["responses"]))
            rows.append(
                (f"`{method.upper()} {path}`", text, " ".join(f"`{q}`" for q in query), answers)
            )
    return table(("call", "what", "query", "statuses"), rows)


def bodies(document: dict[str, Any]) -> list[str]:
    parts = []
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema and name not in ("HTTPValidationError", "ValidationError"):
            required = schema.get("required", ())
            rows = [
                (
                    f"`{key}`",
                    kind(value),
                    "yes" if key in required else "",
                    value.get("description", ""),
                )
                for key, value in schema["properties"].items()
            ]
            parts += [
                f"### {name}",
                schema.get("description", ""),
                table(("field", "type", "required", "meaning"), rows),
            ]
    return [p for p in parts if p]


def kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(kind(s) for s in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    return str(schema.get("const") or schema.get("format") or schema.get("type") or "any")
