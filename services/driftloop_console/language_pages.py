"""The page of a language model's conversations."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from driftloop_console.context import ConsoleContext
from driftloop_console.data_pages import ask
from driftloop_console.page import Page, Section, facts_section, later_section, table_section
from driftloop_console.time_range import time_range
from driftloop_console.views import language_page
from driftloop_contracts.errors import NotFound

Params = Mapping[str, str]
WINDOWS, RETRAINS = 300, 20
USUAL = timedelta(days=7)
ENDED = ("succeeded", "rejected")


def conversations(context: ConsoleContext, params: Params, query: Params) -> Page:
    store, name = context.store, params["model"]
    deployment = store.require_deployment(name)
    if not deployment.model.kind.has_conversations:
        raise NotFound(f"{name!r} is not a language model, so it has no conversations")
    now = context.clock()
    asked = time_range(query, now)
    windows = store.between("windows", name, asked.since, asked.until, WINDOWS)
    until = asked.until or now + timedelta(minutes=1)
    sql = language_page.conversations_sql(
        query.get("show") or "all", asked.since or _newest(windows, now) - USUAL, until
    )

    def found() -> Section:
        rows = ask(context.settings, name, sql, deployment.model.output).rows.to_pylist()
        note = f"The newest {language_page.CONVERSATIONS}; whole ones by `driftloop query`."
        return table_section("Conversations", language_page.conversations_table(rows), query, note)

    show = query.get("show") or "all"
    tuned = next((r for r in store.retrains(name, RETRAINS) if r.state in ENDED), None)
    chart = language_page.judge_chart(windows)
    sections = (
        Section("show", "", "choices.html", {
            "name": "show", "choices": list(language_page.SHOWN), "chosen": show,
            "label": "Which conversations",
        }),
        later_section("table-conversations", "Conversations", "Read from the lake", found),
        table_section(
            "Before and after the newest fine-tune", language_page.before_and_after(tuned), query
        ),
        facts_section("judge", "The judge", language_page.judge_facts(windows)),
        Section("scores", "The judge's scores", "charts.html", {
            "charts": [chart] if chart else [],
            "empty": "No judge scores the answers: `judge.url` names one.",
        }),
    )  # fmt: skip
    return Page(f"Conversations of {name}", "Fleet", sections, frozenset({name}), ranged=True)


def _newest(windows: list[dict[str, object]], now: datetime) -> datetime:
    """When the newest conversations took place, as far as it is known."""
    ended = datetime.fromisoformat(str(windows[0]["ended_at"])) if windows else now
    return ended.astimezone(UTC)
