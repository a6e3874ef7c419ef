"""Links of messages that approve or roll back, from the message to the rollout."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from console_records import NOW
from fastapi.testclient import TestClient
from incident_cases import incident_of
from structlog.testing import capture_logs

from driftloop_alerts.grouping import Item
from driftloop_alerts.message import Message, compose, text_of
from driftloop_alerts.signed_links import Links, Offer, Signer, signer_of
from driftloop_contracts.errors import Forbidden
from driftloop_contracts.incident import Cause, NoticeKind
from driftloop_gateway.app import GatewayContext, make_app
from driftloop_rollout.commands import command
from driftloop_rollout.machine import Rollout
from driftloop_settings import Settings
from driftloop_store import Store

NOT_USED: Any = None
ID = "canary-rollout"
ACTOR = "a link on the route night"


class World:
    """A gateway over a store whose canary waits for its promotion to be approved."""

    def __init__(self, store: Store, state_dir: Path) -> None:
        self.store, self.now = store, NOW + timedelta(minutes=1)
        self.settings = Settings(state_dir=state_dir)
        self.client = self.client_of(self.settings, store, lambda: self.now)
        record = store.rollout(ID)
        waits = {**Rollout.from_record(record).to_body(), "awaits": "promote"}
        store.save_rollout(ID, record["revision"], "running", waits)

    @staticmethod
    def client_of(settings: Settings, store: Any, clock: Callable[[], datetime]) -> TestClient:
        context = GatewayContext(
            settings=settings,
            store=store,
            lake=NOT_USED,
            registry=NOT_USED,
            labels=NOT_USED,
            run_state=lambda: None,
            clock=clock,
            erase=NOT_USED,
        )
        app = make_app(context)
        return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    @property
    def rollout(self) -> Rollout:
        return Rollout.from_record(self.store.rollout(ID))

    def message(self, routes: frozenset[str] = frozenset({"night"})) -> Message:
        evidence = {"rollout": ID, "awaits": "promote", "moves": len(self.rollout.history)}
        waits = incident_of(NOW, cause=Cause.APPROVAL, evidence=evidence)
        items = [Item(NoticeKind.OPENED, waits), Item(NoticeKind.OPENED, incident_of(NOW, id="j"))]
        made = compose("d", "night", items, "http://console", ZoneInfo("UTC"), self.now)
        links = Links(signer_of(self.settings), "http://console", 3_600.0, routes)
        return links.added(Message.from_dict(made.to_dict()))

    def links(self) -> dict[str, str]:
        """The token of each event."""
        entry = self.message().entries[0]
        return {a.event: parse_qs(urlsplit(a.href).query)["token"][0] for a in entry.actions}

    def open(self, token: str) -> tuple[int, str]:
        answer = self.client.get("/act", params={"token": token})
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code, answer.text

    def use(self, token: str) -> tuple[int, str]:
        answer = self.client.post("/act", json={"token": token, "reason": "seen"})
        return answer.status_code, answer.text

    def audited(self) -> list[tuple[str, str]]:
        return [(entry["actor"], entry["action"]) for entry in self.store.audits()]


@pytest.fixture
def world(store: Store, tmp_path: Path) -> World:
    return World(store, tmp_path)


def test_a_message_has_links_for_what_waits_only(world: World) -> None:
    message = world.message()
    waits, other = message.entries
    assert [a.words for a in waits.actions] == ["Approve the promotion", "Roll back"]
    assert other.actions == ()
    assert f"Approve the promotion: {waits.actions[0].href}" in text_of(message)
    assert world.message() == message, "sent again, it is the same"
    assert world.message(frozenset()).entries[0].actions == (), "not on this route"


def test_opening_a_link_changes_nothing_and_its_button_approves_once(world: World) -> None:
    token = world.links()["approve"]
    for _ in range(2):  # a scanner, then a person
        status, page = world.open(token)
        assert (status, "Approve the promotion?" in page) == (200, True)
    assert (world.rollout.approved, world.audited()) == ((), [])
    assert world.use(token) == (200, f"Done: {ACTOR} approved what waited for a person.")
    assert world.rollout.approved == ("promote",)
    assert world.rollout.history[-1].actor == ACTOR
    status, sentence = world.use(token)
    assert (status, sentence.startswith("This was done already: a link")) == (409, True)
    status, page = world.open(token)
    assert (status, "A link works once." in page, "<button type" in page) == (409, True, True)
    assert "hx-post" not in page
    assert world.audited() == [(ACTOR, "refused-link"), (ACTOR, "approve")]


def test_a_link_rolls_back(world: World) -> None:
    status, _ = world.use(world.links()["abort"])
    assert (status, world.rollout.state) == (200, "aborting")


def test_a_link_is_overtaken_by_whatever_else_happens(world: World) -> None:
    links = world.links()
    command(world.store, ID, "pause", "Ada", "", world.now)
    command(world.store, ID, "resume", "Ada", "", world.now)
    for token in links.values():
        status, sentence = world.use(token)
        assert status == 409
        assert sentence.startswith("This link is out of date: Ada paused it at 2026-11-29")
    assert world.rollout.state == "running"


def test_a_link_ends_with_what_it_waited_for(world: World) -> None:
    token = world.links()["approve"]
    record = world.store.rollout(ID)
    withdrawn = {**Rollout.from_record(record).to_body(), "awaits": ""}
    world.store.save_rollout(ID, record["revision"], "running", withdrawn)
    assert "does not wait for this any more" in world.use(token)[1]


def test_a_link_expires(world: World) -> None:
    token = world.links()["approve"]
    world.now += timedelta(hours=1)
    assert world.use(token) == (409, "This link expired at 2026-11-29 13:01:00 UTC.")
    assert world.rollout.approved == ()


def forgeries(token: str) -> Iterator[str]:
    content, signature = token.split(".")
    yield from ("", ".", "x", token[:-1], f"{content}.", f"{content}.{'A' * len(signature)}")
    yield f"{content[:-2]}AA.{signature}"
    yield f"{token}{token}"
    yield "ü.é🔥"
    yield Signer(b"another key").token(Offer(ID, 1, "promote", "approve", "night", 1 << 40))


def test_forged_links_are_refused_and_recorded_once_a_minute(world: World) -> None:
    for token in forgeries(world.links()["approve"]):
        assert world.use(token)[0] == 403
        status, page = world.open(token)
        assert (status, "was not made by this stack" in page) == (403, True)
    assert world.client.post("/act", json={"token": "x" * 9_999}).status_code == 400
    assert world.rollout.approved == ()
    assert world.audited() == [("unknown", "refused-link")]


def test_a_form_of_another_site_cannot_use_a_link(world: World) -> None:
    token = world.links()["approve"]
    assert world.client.post("/act", data={"token": token}).status_code == 415


def test_the_key_is_a_private_file_and_may_be_given(world: World, tmp_path: Path) -> None:
    offer = Offer(ID, 1, "promote", "approve", "night", 2)
    token = signer_of(world.settings).token(offer)
    assert (tmp_path / "links.key").stat().st_mode & 0o777 == 0o600
    given = replace_secret(world.settings)
    assert signer_of(given).offer(signer_of(given).token(offer)) == offer
    with pytest.raises(Forbidden):
        signer_of(given).offer(token)


def replace_secret(settings: Settings) -> Settings:
    return Settings(state_dir=settings.state_dir, alerts={"links_secret": "k" * 32})


def test_no_log_holds_a_token_even_if_the_page_breaks(world: World, tmp_path: Path) -> None:
    token = world.links()["approve"]
    broken = World.client_of(Settings(state_dir=tmp_path), NOT_USED, lambda: world.now)
    with capture_logs() as logs:
        world.open(token)
        world.open(token[:-1])
        world.use(token[:-1])
        assert broken.get("/act", params={"token": token}).status_code == 500
        assert world.use(token)[0] == 200
    assert [entry["event"] for entry in logs] == ["console.forged_link", "request.broke"]
    assert token[:20] not in str([{**entry, "exc_info": ""} for entry in logs])
