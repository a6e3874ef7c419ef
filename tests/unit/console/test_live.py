"""What an open page is sent: the sections that changed, and only those."""

import asyncio
from collections.abc import Mapping

import pytest

from driftloop_console.changes_feed import ChangesFeed, Tokens
from driftloop_console.live import LivePages, Rendered, event, parse_seen
from driftloop_console.page import Page, Section
from driftloop_console.rendering import tag_of
from driftloop_contracts.errors import NotFound

M = frozenset({"m"})


class World:
    """A page with two sections over a value that changes."""

    def __init__(self) -> None:
        self.revision = 0
        self.said = "one"
        self.built = 0
        self.gone = False

    def look(self, before: Tokens) -> Tokens:
        return Tokens({"m": self.revision}, {})

    def build(self, path: str, query: Mapping[str, str]) -> Page:
        if self.gone:
            raise NotFound("gone")
        self.built += 1
        first = Section("first", "", "prose.html", {"sentences": [self.said], "empty": ""})
        second = Section("second", "", "prose.html", {"sentences": ["same"], "empty": ""})
        return Page("p", "", (first, second), M)

    def says(self, text: str) -> None:
        self.said, self.revision = text, self.revision + 1


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def live(world: World) -> LivePages:
    feed = ChangesFeed(world.look, poll_s=0.01)
    return LivePages(world.build, feed, keep_alive_s=30.0)


async def test_only_the_section_that_changed_is_sent(world: World, live: LivePages) -> None:
    seen = {"first": tag_of("<p>one</p>\n"), "second": tag_of("<p>same</p>\n")}
    stream = live.events("/p", "/p", {}, seen)
    assert (await anext(stream)).startswith("retry:")
    world.says("two")
    assert await anext(stream) == "event: first\ndata: <p>two</p>\n\n"
    await stream.aclose()


async def test_a_page_that_missed_a_change_is_sent_it_at_once(live: LivePages) -> None:
    stream = live.events("/p", "/p", {}, {"first": "old", "second": "old"})
    sent = [await anext(stream) for _ in range(3)]
    assert [text.partition("\n")[0] for text in sent[1:]] == ["event: first", "event: second"]
    await stream.aclose()


async def test_a_change_while_the_page_is_made_is_sent_without_another(
    world: World, live: LivePages
) -> None:
    stream = live.events("/p", "/p", {}, {})
    for _ in range(2):
        await anext(stream)
    world.says("two")  # the stream is between its sections, and does not wait for a change
    while live._feed.tokens.models != {"m": 1}:
        await asyncio.sleep(0)
    await anext(stream)
    async with asyncio.timeout(10):  # the next sign of life comes after 30
        assert await anext(stream) == "event: first\ndata: <p>two</p>\n\n"
    await stream.aclose()


async def test_a_browser_that_goes_away_leaves_nothing_running(
    world: World, live: LivePages
) -> None:
    stream = live.events("/p", "/p", {}, {})
    for _ in range(3):
        await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()  # as the server does with the stream of a client that is gone
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert live._feed._task is None
    assert (live._open, live._rendered) == ({}, {})


async def test_ten_pages_with_one_url_are_made_once(world: World, live: LivePages) -> None:
    streams = [live.events("/p", "/p", {}, {}) for _ in range(10)]
    for _ in range(3):
        for stream in streams:
            await anext(stream)
    assert world.built == 1
    for stream in streams:
        await stream.aclose()


async def test_the_stream_of_a_page_that_is_gone_ends(world: World, live: LivePages) -> None:
    stream = live.events("/p", "/p", {}, {})
    for _ in range(3):
        await anext(stream)
    world.gone = True
    world.says("never")
    assert [text async for text in stream] == []


async def test_open_pages_do_not_hold_up_a_process_that_stops(world: World) -> None:
    stopping = asyncio.Event()
    feed = ChangesFeed(world.look, stopping.is_set, poll_s=0.01)
    stream = LivePages(world.build, feed).events("/p", "/p", {}, {})
    for _ in range(3):
        await anext(stream)
    stopping.set()
    assert [text async for text in stream] == []


def test_traffic_is_shown_less_often_if_showing_it_takes_long() -> None:
    quick = Rendered(M, {}, Tokens({"m": 1}, {"m": 1}), made_s=100.0, cost_s=0.01)
    slow = Rendered(M, {}, Tokens({"m": 1}, {"m": 1}), made_s=100.0, cost_s=0.3)
    more = Tokens({"m": 1}, {"m": 2})
    assert (quick.stale(more, 101.0), quick.stale(more, 102.0)) == (False, True)
    assert (slow.stale(more, 105.0), slow.stale(more, 110.0)) == (False, True)
    assert slow.stale(Tokens({"m": 2}, {"m": 1}), 100.1)
    assert not slow.stale(Tokens({"m": 1, "other": 2}, {"m": 1, "other": 3}), 500.0)


def test_an_event_keeps_the_lines_of_its_html() -> None:
    assert event("a", "<p>\n</p>") == "event: a\ndata: <p>\ndata: </p>\n\n"
    assert parse_seen("a:1,b:2,nonsense,") == {"a": "1", "b": "2"}
