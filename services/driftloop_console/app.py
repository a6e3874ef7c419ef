"""The console's routes, added to the gateway's application. Thin: a page is built in `pages`."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from driftloop_console import actions
from driftloop_console.assets import assets
from driftloop_console.changes_feed import ChangesFeed
from driftloop_console.context import ConsoleContext
from driftloop_console.live import LivePages, parse_seen
from driftloop_console.page import Page
from driftloop_console.pages import PAGES, build_page
from driftloop_console.rendering import render_error, render_page, render_section
from driftloop_console.signed_link_pages import add_signed_links
from driftloop_contracts.errors import DriftloopError, Forbidden, NotFound, Rejected, listed, shown
from driftloop_http.http_errors import headers_of, status_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
PARTS = ("format", "table", "section")
"""Parameters that ask for a part of a page."""
FOREVER = {
    "cache-control": "public, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
}


def add_console(app: FastAPI, context: ConsoleContext, feed: ChangesFeed) -> None:
    """Call it after the error handlers are installed: those for browsers have priority."""
    for path in PAGES:
        _add_page(app, path, context)
    _add_live(app, context, feed)
    actions.add_actions(app, context)
    add_signed_links(app, context, HEADERS)
    _add_errors(app)

    @app.get("/console/{tag}/{name}", include_in_schema=False)
    def asset(tag: str, name: str) -> Response:
        found = assets().get(name)
        if found is None or found.tag != tag:
            raise NotFound(f"there is no file {name!r} of this release; load the page again")
        return Response(found.content, media_type=found.media_type, headers=FOREVER)


def _add_page(app: FastAPI, path: str, context: ConsoleContext) -> None:
    def page(request: Request) -> Response:
        query = dict(request.query_params)
        path = request.url.path if request.url.path == "/" else unquote(request.scope["path"])
        try:
            if _embedded(request.headers):
                raise Forbidden("a page of another site may link to this console, not load from it")
            kept = {k: v for k, v in query.items() if k not in PARTS}
            built = build_page(context, path, kept)
            if "section" in query:
                section = built.section(query["section"])
                return HTMLResponse(render_section(section, path, kept), headers=HEADERS)
            if "format" in query:
                return _exported(built, query)
            return HTMLResponse(render_page(built, path, kept), headers=HEADERS)
        except DriftloopError as error:
            return _error_page(status_of(error), str(error), headers_of(error))

    app.add_api_route(path, page, methods=["GET"], include_in_schema=False)


def _embedded(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site asks, as an image or a script does, without a person who
    follows a link: it could start queries."""
    other = headers.get("sec-fetch-site", "") in ("cross-site", "same-site")
    return other and headers.get("sec-fetch-mode") != "navigate"


def _exported(page: Page, query: Mapping[str, str]) -> Response:
    tables, form = page.tables, query["format"]
    name = query.get("table") or next(iter(tables), "")
    if name not in tables:
        raise Rejected(f"table={shown(name)}: the page has {listed(tables) or 'no table'}")
    if form == "csv":
        kind, text = "text/csv", page.table(name).to_csv()
    elif form == "json":
        kind, text = "application/json", page.table(name).to_json()
    else:
        raise Rejected(f"format={shown(form)}: write csv or json")
    named = {"content-disposition": f'attachment; filename="{name}.{form}"'}
    return Response(text, media_type=kind, headers={**HEADERS, **named})


def _add_live(app: FastAPI, context: ConsoleContext, feed: ChangesFeed) -> None:
    pages = LivePages(lambda path, query: build_page(context, path, query), feed)

    @app.get("/live", include_in_schema=False)
    async def live(page: str, seen: str = "") -> Response:
        """The sections of a page that differ from those `seen`, now and whenever they change."""
        url = urlsplit(page)
        path, query = unquote(url.path), dict(parse_qsl(url.query))
        try:
            await run_in_threadpool(build_page, context, path, query)
        except DriftloopError as error:
            # 204 ends an event stream: the browser does not ask again.
            gone = isinstance(error, NotFound)
            return Response(status_code=204 if gone else status_of(error))
        events = pages.events(page, path, query, parse_seen(seen))
        return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)


def _add_errors(app: FastAPI) -> None:
    """A person who follows an old link gets a page; programs, and all of the API, get JSON."""
    before: Any = app.exception_handlers[HTTPException]

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        wanted: str = request.headers.get("accept", "")
        path = request.url.path
        if error.status_code != 404 or "text/html" not in wanted or path.startswith("/api/"):
            answer: Response = await before(request, error)
            return answer
        return _error_page(404, f"there is no page {path[:200]!r}", {})


def _error_page(status: int, sentence: str, headers: Mapping[str, str]) -> Response:
    return HTMLResponse(render_error(status, sentence), status, {**HEADERS, **headers})
