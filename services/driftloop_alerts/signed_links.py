"""Links in messages that approve or roll back a rollout, signed so that nobody else makes one.

A token names the rollout, what waits for a person, and how many transitions the rollout had. To
act is one more transition: a link works once, and no others of that state work after it. ADR 53.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from driftloop_alerts.message import Action, Entry, Message
from driftloop_contracts.errors import Forbidden
from driftloop_settings import Settings
from driftloop_settings.private_files import secret_file

PAGE = "/act"
PURPOSE = b"driftloop/link/1\0"
"""Signed with each token, so that a signature for anything else is not one of a link."""
LONGEST = 2_000
"""Characters of a token."""
EVENTS = {"approve": "Approve the {}", "abort": "Roll back"}
NAMES = {"canary": "canary", "promote": "promotion"}
FORGED = "This link was not made by this stack, or is incomplete. Copy the whole link."


@dataclass(frozen=True, slots=True)
class Offer:
    """What a link offers to do: `event` to a rollout with `moves` transitions, of which `awaits`
    waits for a person. expires_s: seconds since 1970. route: whose message has the link."""

    rollout: str
    moves: int
    awaits: str
    event: str
    route: str
    expires_s: int


class Signer:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, offer: Offer) -> str:
        content = _encoded(json.dumps(list(asdict(offer).values())).encode())
        return f"{content}.{self._signature(content)}"

    def offer(self, token: str) -> Offer:
        """Raises Forbidden for a token that was not signed with this key."""
        content, _, signature = token[:LONGEST].partition(".")
        expected = self._signature(content)
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            raise Forbidden(FORGED)
        return Offer(*json.loads(urlsafe_b64decode(content + "=" * (-len(content) % 4))))

    def _signature(self, content: str) -> str:
        signed = PURPOSE + content.encode(errors="replace")
        return _encoded(hmac.digest(self._key, signed, "sha256"))


def signer_of(settings: Settings) -> Signer:
    """With the key of the settings, else one that the state directory keeps."""
    given = settings.alerts.links_secret
    if given is not None:
        return Signer(given.get_secret_value().encode())
    return Signer(secret_file(settings.state_dir / "links.key").read_bytes())


class Links:
    """Adds links to a message when it is sent: no token is in the store. Sent again, a message has
    the same ones. routes: whose messages have links; link: the console's address."""

    def __init__(self, signer: Signer, link: str, lasts_s: float, routes: Set[str]) -> None:
        self._signer = signer
        self._link = link
        self._lasts = timedelta(seconds=lasts_s)
        self._routes = routes

    def added(self, message: Message) -> Message:
        if message.route not in self._routes:
            return message
        expires = datetime.fromisoformat(message.at) + self._lasts
        entries = tuple(self._with_actions(e, message.route, expires) for e in message.entries)
        return replace(message, entries=entries)

    def _with_actions(self, entry: Entry, route: str, expires: datetime) -> Entry:
        if entry.waits is None:
            return entry
        offers = [_offer(entry.waits, event, route, expires) for event in EVENTS]
        return replace(entry, actions=tuple(map(self._action, offers)))

    def _action(self, offer: Offer) -> Action:
        # In the query: more places log paths.
        href = f"{self._link}{PAGE}?token={self._signer.token(offer)}"
        return Action(words_of(offer.event, offer.awaits), offer.event, href)


def words_of(event: str, awaits: str) -> str:
    """Such as `Approve the canary`."""
    return EVENTS[event].format(NAMES.get(awaits, awaits))


def _offer(waits: Mapping[str, Any], event: str, route: str, expires: datetime) -> Offer:
    at = int(expires.timestamp())
    return Offer(waits["rollout"], int(waits["moves"]), waits["awaits"], event, route, at)


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
