"""What a link of a message would do, and why it can not any more. Pure."""

from datetime import UTC, datetime

from driftloop_alerts.signed_links import Offer
from driftloop_console import words
from driftloop_console.views.rollout_page import DONE
from driftloop_rollout.machine import Rollout


def actor_of(offer: Offer) -> str:
    """Who acts: links are sent to routes, not to persons."""
    return f"a link on the route {offer.route}"


def refusal(offer: Offer, rollout: Rollout, now: datetime) -> str:
    """Why the link does nothing: it was used, or something else happened since, or its time is
    over. "" if it works."""
    since = rollout.history[offer.moves :]
    if since:
        first = since[0]
        did = f"{first.actor} {DONE[first.event]} at {words.time(first.at)}"
        if first.actor == actor_of(offer) and first.event == offer.event:
            return f"This was done already: {did}. A link works once."
        state = rollout.state.replace("_", " ")
        return f"This link is out of date: {did}. The rollout is now {state}."
    if rollout.awaits != offer.awaits or len(rollout.history) < offer.moves:
        return "This link is out of date: the rollout does not wait for this any more."
    expired = datetime.fromtimestamp(offer.expires_s, UTC)
    if now >= expired:
        return f"This link expired at {words.time(expired)}."
    return ""
