"""Each sender against a real server, and what receivers do that they should not."""

import hmac
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hostile_texts import HOSTILE
from incident_cases import incident_of
from receiver import Receiver, Request, receiving
from receiver_schemas import (
    PAGERDUTY_BYTES,
    TEAMS_BYTES,
    PagerDutyEvent,
    SlackMessage,
    TeamsMessage,
)

from driftloop_alerts.conditions import sentence
from driftloop_alerts.grouping import Item
from driftloop_alerts.message import Message, compose
from driftloop_alerts.senders.building import check_routes, sender_for
from driftloop_alerts.senders.http_post import retry_after_s
from driftloop_alerts.senders.port import Undelivered
from driftloop_alerts.signed_links import Links, Signer
from driftloop_contracts.errors import Rejected
from driftloop_contracts.incident import Cause, NoticeKind, Urgency
from driftloop_settings.alert_sections import AlertsSettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OPENED = Item(NoticeKind.OPENED, incident_of(NOW))
RESOLVED = Item(NoticeKind.RESOLVED, incident_of(NOW, id="j", resolved_at=NOW + timedelta(hours=2)))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def message(*items: Item, id_: str = "d1") -> Message:
    return compose(id_, "night", items, "http://console", ZoneInfo("UTC"), NOW)


def send(to: str, what: Message, timeout_s: float = 5.0, **more: str) -> None:
    route = {"name": "night", "to": to, **more}
    settings = AlertsSettings(routes=(route,), timeout_s=timeout_s)
    sender = sender_for(settings.routes[0], settings)
    try:
        sender.send(what)
    finally:
        sender.close()


def test_a_web_hook_is_signed_and_has_the_same_key_when_it_is_sent_again(
    receiver: Receiver,
) -> None:
    for _ in range(2):
        send(f"{receiver.url}/hook", message(OPENED, RESOLVED), secret="s3cret")
    first, second = receiver.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "d1"
    signed = first.headers["x-driftloop-timestamp"].encode() + b"." + first.content
    expected = hmac.new(b"s3cret", signed, "sha256").hexdigest()
    assert first.headers["x-driftloop-signature"] == f"v1={expected}"
    assert first.json["counts"] == {"page": 1, "resolved": 1}
    opened, resolved = first.json["entries"]
    assert (opened["link"], opened["model"]) == ("http://console/incidents/i", "m")
    assert "open from 2026-11-24 12:00 UTC to 2026-11-24 14:00 UTC" in resolved["next"]


def test_slack_gets_one_text_in_which_names_mean_nothing(receiver: Receiver) -> None:
    loud = incident_of(NOW, happened="<!channel> & <b>loud</b>.")
    send(f"slack+http://{receiver.authority}/services/T/B/X", message(Item("opened", loud)))
    (request,) = receiver.requests
    assert request.path == "/services/T/B/X"
    assert "&lt;!channel&gt; &amp; &lt;b&gt;loud" in request.json["text"]
    assert "http://console/incidents/i" in request.json["text"]


def test_teams_gets_a_card(receiver: Receiver) -> None:
    send(f"teams+http://{receiver.authority}/workflows/x?sig=y", message(OPENED))
    (request,) = receiver.requests
    assert request.path == "/workflows/x?sig=y"
    card = request.json["attachments"][0]["content"]
    assert card["type"] == "AdaptiveCard"
    assert "PAGE m: the measured error rose" in card["body"][1]["text"]


def test_pagerduty_is_triggered_once_for_a_storm_and_resolved_for_each(receiver: Receiver) -> None:
    storm = [Item(NoticeKind.OPENED, incident_of(NOW, id=f"i{n}")) for n in range(40)]
    send(f"pagerduty+http://KEY@{receiver.authority}", message(*storm, RESOLVED))
    events = [(r.json["event_action"], r.json["dedup_key"]) for r in receiver.requests]
    assert events == [("resolve", "j"), ("trigger", "i0")]
    trigger = receiver.requests[1].json
    assert (trigger["routing_key"], trigger["payload"]["severity"]) == ("KEY", "critical")
    assert "40 pages" in trigger["payload"]["summary"]


def test_alertmanager_gets_every_incident_with_its_end(receiver: Receiver) -> None:
    send(f"alertmanager://{receiver.authority}/prefix/", message(OPENED, RESOLVED))
    (request,) = receiver.requests
    assert request.path == "/prefix/api/v2/alerts"
    opened, resolved = request.json
    assert opened["labels"]["alertname"] == "driftloop_performance"
    assert opened["labels"]["severity"] == "critical"
    assert datetime.fromisoformat(opened["endsAt"]) > NOW + timedelta(days=365)
    assert resolved["endsAt"] == (NOW + timedelta(hours=2)).isoformat()


def failure(receiver: Receiver, path: str = "/secret-path", timeout_s: float = 5.0) -> Undelivered:
    with pytest.raises(Undelivered) as raised:
        send(f"{receiver.url}{path}", message(OPENED), timeout_s)
    return raised.value


def test_whatever_apprise_knows_gets_title_and_text(receiver: Receiver) -> None:
    to = f"apprise:json://{receiver.authority}/hook"
    send(to, message(OPENED))
    (request,) = receiver.requests
    assert request.path == "/hook"
    assert request.json["title"] == message(OPENED).title
    assert "http://console/incidents/i" in request.json["message"]
    receiver.answer = lambda _: (500, {}, b"")
    with pytest.raises(Undelivered, match="Apprise could not send it"):
        send(to, message(OPENED))
    with pytest.raises(Undelivered, match="Apprise does not know such an address"):
        send("apprise:no-such-service://x", message(OPENED))


def test_an_address_that_apprise_does_not_know_is_refused_before_the_start() -> None:
    def settings(to: str) -> AlertsSettings:
        return AlertsSettings(routes=({"name": "night", "to": to},))  # type: ignore[arg-type]

    check_routes(settings("apprise:json://host/hook"))
    with pytest.raises(Rejected, match="'night': `to` is an address that Apprise does not know"):
        check_routes(settings("apprise:no-such-service://x"))


def test_a_receiver_that_hangs_is_given_up_after_the_timeout(receiver: Receiver) -> None:
    receiver.answer = receiver.hang
    assert str(failure(receiver, timeout_s=0.2)) == "no answer within 0.2 s"


def test_a_receiver_that_redirects_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = lambda _: (302, {"location": f"{receiver.url}/elsewhere"}, b"")
    assert "302, a redirect; write the address" in str(failure(receiver))
    assert len(receiver.requests) == 1


def test_a_receiver_that_asks_for_patience_says_for_how_long(receiver: Receiver) -> None:
    receiver.answer = lambda _: (429, {"retry-after": "30"}, b"slow down")
    error = failure(receiver)
    assert (str(error), error.retry_after_s) == ("it answers 429: slow down", 30.0)


def test_what_a_receiver_says_is_shown_without_the_secret_address(receiver: Receiver) -> None:
    def echo(request: Request) -> tuple[int, dict[str, str], bytes]:
        return 500, {}, f"Cannot POST {request.path}\n".encode() + b"x" * 100_000

    receiver.answer = echo
    error = str(failure(receiver))
    assert error.startswith("it answers 500: Cannot POST … xxx")
    assert "secret-path" not in error
    assert len(error) < 300


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        with pytest.raises(Undelivered, match="ConnectError"):
            send(f"http://127.0.0.1:{taken.getsockname()[1]}/secret", message(OPENED))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7.0), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize("scheme", ["", "slack+", "teams+", "pagerduty+", "alertmanager"])
def test_hostile_texts_of_any_length_arrive(receiver: Receiver, scheme: str) -> None:
    texts = [*HOSTILE, "x" * 100_000, "🔥" * 50_000]
    items = [
        Item(
            NoticeKind.OPENED,
            incident_of(
                NOW, id=f"i{n}", happened=sentence(text), subject=text[:64], urgency=Urgency.TICKET,
                cause=Cause.LATE_LABELS,
            ),
        )
        for n, text in enumerate(texts)
    ]  # fmt: skip
    to = f"alertmanager://{receiver.authority}" if scheme == "alertmanager" else (
        f"{scheme}http://k@{receiver.authority}/x"
    )  # fmt: skip
    send(to, message(*items))
    (request,) = receiver.requests
    assert len(request.content) < 60_000
    assert request.json


@pytest.mark.parametrize(
    ("scheme", "documented", "most_bytes"),
    [
        ("slack+", SlackMessage, 200_000),
        ("teams+", TeamsMessage, TEAMS_BYTES),
        ("pagerduty+", PagerDutyEvent, PAGERDUTY_BYTES),
    ],
)
@pytest.mark.parametrize("letter", ["x", "🔥", "<", '"', "\\"])
def test_what_is_sent_is_what_the_receiver_documents(
    receiver: Receiver,
    scheme: str,
    documented: type[SlackMessage | TeamsMessage | PagerDutyEvent],
    most_bytes: int,
    letter: str,
) -> None:
    waits = {"rollout": "ro", "awaits": "promote", "moves": 3}
    text = sentence(letter * 100_000)
    items = [
        Item(
            NoticeKind.OPENED,
            incident_of(
                NOW,
                id=f"i{n}",
                cause=Cause.APPROVAL,
                happened=text,
                next=text,
                model=letter * 64,
                evidence=waits,
            ),
        )
        for n in range(40)
    ]
    links = Links(Signer(b"k" * 32), "http://console", 3_600.0, {"night"})
    for shown in ([*items, RESOLVED], items[:1]):
        receiver.requests.clear()
        send(f"{scheme}http://k@{receiver.authority}/x", links.added(message(*shown)))
        for request in receiver.requests:
            documented.model_validate(request.json)
            assert len(request.content) <= most_bytes
        assert b"/act?token=" in receiver.requests[-1].content
