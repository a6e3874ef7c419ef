"""The page Data: SQL over a model's rows in the lake, read only and with limits (ADR 54)."""

from collections.abc import Mapping
from functools import cache

from driftloop_console.context import ConsoleContext
from driftloop_console.page import (
    Page,
    Section,
    later_section,
    prose_section,
    table_section,
)  # fmt: skip
from driftloop_console.views import data_page
from driftloop_contracts.errors import Rejected
from driftloop_lake.bounded_query import Answer, BoundedQueries, QueryLimits
from driftloop_lake.view_columns import view_columns
from driftloop_settings import Settings

Params = Mapping[str, str]
MOST_CHARS = 10_000
EXAMPLE = (
    "SELECT version, arm, count(*) AS rows, count(error) AS failed\n"
    "FROM predictions GROUP BY ALL ORDER BY ALL"
)
_queries = cache(BoundedQueries)  # one for each lake and its limits: it counts those that run


def limits_of(settings: Settings) -> QueryLimits:
    control = settings.control
    return QueryLimits(control.query_s, control.query_rows, control.query_memory_mb)


def ask(settings: Settings, model: str, sql: str, output: str | None) -> Answer:
    """Of one queue for all pages. Raises what `BoundedQueries.ask` does."""
    return _queries(settings.lake_uri, limits_of(settings)).ask(model, sql, output)


def data(context: ConsoleContext, _: Params, query: Params) -> Page:
    settings = context.settings
    models = sorted(d.model.name for d in context.store.deployments())
    if not models:
        empty = "No model is deployed, so the lake has no rows of one: `driftloop deploy` does it."
        return Page("Data", "Data", (prose_section("query", "", [], empty),), live=False)
    model, sql = query.get("model") or models[0], query.get("sql", "").replace("\r\n", "\n")
    deployment = context.store.require_deployment(model)
    if len(sql) > MOST_CHARS:
        raise Rejected(f"sql: at most {MOST_CHARS:,} characters")
    limits = limits_of(settings)

    def result() -> Section:
        answer = ask(settings, model, sql, deployment.model.output)
        note = data_page.result_note(answer)
        return table_section("Result", data_page.result_table(answer), query, note)

    def columns() -> Section:
        table = data_page.columns_table(view_columns(settings.lake_uri, model))
        return table_section("Views and their columns", table, query)

    form = {
        "models": models, "model": model, "sql": sql or EXAMPLE, "most_chars": MOST_CHARS,
        "limits": data_page.limits_sentence(limits),
    }  # fmt: skip
    sections = [Section("query", "", "query_form.html", form)]
    if sql.strip():
        sections.append(later_section("table-result", "Result", "The query runs", result))
    sections.append(
        later_section("table-columns", "Views and their columns", "Read from the lake", columns)
    )
    return Page("Data", "Data", tuple(sections), frozenset({model}), live=False)
