"""The pages: which URL has which builder, from the store's records to a `Page`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from re import Pattern

from starlette.routing import compile_path

from driftloop_console import data_pages, language_pages, model_pages, overview_pages, run_pages
from driftloop_console.context import ConsoleContext
from driftloop_console.page import Page
from driftloop_contracts.errors import NotFound, shown

Query = Mapping[str, str]
Builder = Callable[[ConsoleContext, Mapping[str, str], Query], Page]
PAGES: Mapping[str, Builder] = {
    "/": overview_pages.fleet,
    "/models/{model}": model_pages.model,
    "/models/{model}/conversations": language_pages.conversations,
    "/models/{model}/versions/{version:int}": model_pages.version,
    "/rollouts/{id}": run_pages.rollout,
    "/retrains/{id}": run_pages.retrain,
    "/incidents": overview_pages.incidents,
    "/incidents/{id}": overview_pages.incident,
    "/decisions": overview_pages.decisions,
    "/audit": overview_pages.audit,
    "/data": data_pages.data,
    "/settings": overview_pages.settings,
    "/system": overview_pages.system,
}


@dataclass(frozen=True, slots=True)
class _Route:
    pattern: Pattern[str]
    build: Builder


_ROUTES = [_Route(compile_path(path)[0], build) for path, build in PAGES.items()]


def build_page(context: ConsoleContext, path: str, query: Query) -> Page:
    """path: decoded. Raises NotFound, or Rejected for a query that makes no sense."""
    for route in _ROUTES:
        if found := route.pattern.match(path):
            with context.store.reading():
                return route.build(context, found.groupdict(), query)
    raise NotFound(f"there is no page {shown(path)}")
