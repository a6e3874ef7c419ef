"""Server-sent events: the sections of an open page that changed, as HTML.

A page says which sections it holds, by the hash of each. All pages with one URL are rendered once.
Records are shown at once; the counts of rows change all the time under traffic, so a page that
takes long to make is made less often for their sake.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from driftloop_console.changes_feed import ChangesFeed, Tokens
from driftloop_console.page import Page
from driftloop_console.rendering import render_section, tag_of
from driftloop_contracts.errors import DriftloopError

KEEP_ALIVE_S = 15.0
TRAFFIC_S = 2.0
LOAD = 0.03
"""Of a core, at most, for showing the traffic of a page."""
RETRY_MS = 2_000

Build = Callable[[str, Mapping[str, str]], Page]
"""From the path and query of a URL. Raises DriftloopError."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """sections: id → (hash, HTML). tokens: of before it was made. cost_s: what making took."""

    about: frozenset[str] | None
    sections: Mapping[str, tuple[str, str]]
    tokens: Tokens
    made_s: float
    cost_s: float

    def stale(self, now: Tokens, now_s: float) -> bool:
        if now.records_of(self.about) != self.tokens.records_of(self.about):
            return True
        gap_s = max(TRAFFIC_S, self.cost_s / LOAD)
        moved = now.traffic_of(self.about) != self.tokens.traffic_of(self.about)
        return moved and now_s - self.made_s >= gap_s


class LivePages:
    def __init__(
        self,
        build: Build,
        feed: ChangesFeed,
        clock_s: Callable[[], float] = time.monotonic,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._build = build
        self._feed = feed
        self._clock_s = clock_s
        self._keep_alive_s = keep_alive_s
        self._rendered: dict[str, asyncio.Task[Rendered]] = {}
        self._open: dict[str, int] = {}

    async def events(
        self, url: str, path: str, query: Mapping[str, str], seen: Mapping[str, str]
    ) -> AsyncIterator[str]:
        """Until the client leaves. seen: section → hash that the browser holds. A page that is gone
        ends the stream."""
        holds = dict(seen)
        self._open[url] = self._open.get(url, 0) + 1
        try:
            async with self._feed.listening():
                yield f"retry: {RETRY_MS}\n\n"
                while not self._feed.ended:
                    quiet, known = True, self._feed.tokens
                    for id_, (tag, html) in (await self._current(url, path, query)).items():
                        if holds.get(id_) != tag:
                            holds[id_] = tag
                            quiet = False
                            yield event(id_, html)
                    moved = await self._feed.moved(known, self._keep_alive_s)
                    if quiet and not moved:
                        yield ": still here\n\n"
        except DriftloopError:
            return
        finally:
            self._open[url] -= 1
            if not self._open[url]:
                del self._open[url]
                self._rendered.pop(url, None)

    async def _current(
        self, url: str, path: str, query: Mapping[str, str]
    ) -> Mapping[str, tuple[str, str]]:
        task = self._rendered.get(url)
        if task is None or (task.done() and (await task).stale(self._feed.tokens, self._clock_s())):
            work = run_in_threadpool(self._render, path, query, self._feed.tokens)
            task = self._rendered[url] = asyncio.ensure_future(work)
        try:
            return (await asyncio.shield(task)).sections
        except DriftloopError:
            self._rendered.pop(url, None)
            raise

    def _render(self, path: str, query: Mapping[str, str], tokens: Tokens) -> Rendered:
        begun = self._clock_s()
        page = self._build(path, query)
        made = {section.id: render_section(section, path, query) for section in page.sections}
        sections = {id_: (tag_of(html), html) for id_, html in made.items()}
        now = self._clock_s()
        return Rendered(page.about, sections, tokens, now, now - begun)


def event(name: str, html: str) -> str:
    data = "".join(f"data: {line}\n" for line in html.splitlines()) or "data:\n"
    return f"event: {name}\n{data}\n"


def parse_seen(text: str) -> dict[str, str]:
    """From `section:hash,section:hash`; what is not of that form is left out."""
    pairs = (pair.partition(":") for pair in text.split(","))
    return {name: tag for name, found, tag in pairs if found}
