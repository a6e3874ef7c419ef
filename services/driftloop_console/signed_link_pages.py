"""Where links of messages lead: a page that asks, and the button that acts.

To open a link changes nothing: mail scanners and previews open links, too.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from markupsafe import escape
from pydantic import BaseModel, Field

from driftloop_alerts.signed_links import LONGEST, PAGE, Offer, signer_of, words_of
from driftloop_console.context import ConsoleContext
from driftloop_console.rendering import render_frame
from driftloop_console.views.rollout_page import DONE
from driftloop_console.views.signed_link import actor_of, refusal
from driftloop_contracts.errors import Conflict, DriftloopError, Forbidden
from driftloop_http.http_errors import headers_of, status_of
from driftloop_rollout import commands
from driftloop_rollout.machine import Event, Rollout

log = structlog.get_logger()

FORGED_EVERY = timedelta(minutes=1)
"""Anybody can send forged links: of many, one in this time is recorded."""


class Used(BaseModel):
    token: str = Field(max_length=LONGEST)
    reason: str = Field("", max_length=2_000)


class SignedLinks:
    """Opens and uses tokens. The key is read on first use."""

    def __init__(self, context: ConsoleContext) -> None:
        self._context = context
        self._forged_at: datetime | None = None

    def opened(self, token: str) -> tuple[Offer, Rollout]:
        """Raises Forbidden, NotFound, or Conflict with the reason why it does nothing any more."""
        offer = signer_of(self._context.settings).offer(token)
        rollout = Rollout.from_record(self._context.store.rollout(offer.rollout))
        self._check(offer, rollout)
        return offer, rollout

    def use(self, used: Used) -> str:
        """What was done. Raises as `opened`; attempts are recorded, too."""
        store, now = self._context.store, self._context.clock()
        try:
            offer = signer_of(self._context.settings).offer(used.token)
        except Forbidden:
            self._record_forged(now)
            raise
        actor = actor_of(offer)
        detail = {"rollout": offer.rollout, "reason": used.reason}
        try:
            commands.command(
                store,
                offer.rollout,
                offer.event,
                actor,
                used.reason,
                now,
                lambda rollout: self._check(offer, rollout),
            )
        except DriftloopError as error:
            refused = {**detail, "command": offer.event, "refused": str(error)}
            store.audit(actor, "refused-link", refused)
            raise
        store.audit(actor, offer.event, detail)
        return f"Done: {actor} {DONE[Event(offer.event)]}."

    def _check(self, offer: Offer, rollout: Rollout) -> None:
        why = refusal(offer, rollout, self._context.clock())
        if why:
            raise Conflict(why)

    def _record_forged(self, now: datetime) -> None:
        log.warning("console.forged_link")
        if self._forged_at is None or now - self._forged_at >= FORGED_EVERY:
            self._forged_at = now
            self._context.store.audit("unknown", "refused-link", {"refused": "a forged link"})


def add_signed_links(app: FastAPI, context: ConsoleContext, headers: Mapping[str, str]) -> None:
    """headers: of every page."""
    links = SignedLinks(context)
    quiet = {**headers, "referrer-policy": "no-referrer"}  # the address is a secret

    @app.get(PAGE, include_in_schema=False)
    def ask(token: str = "") -> Response:
        try:
            offer, rollout = links.opened(token)
        except DriftloopError as error:
            page = render_frame("signed_link.html", title="Nothing was done", refused=str(error))
            return HTMLResponse(page, status_of(error), {**quiet, **headers_of(error)})
        page = render_frame(
            "signed_link.html",
            title=f"{words_of(offer.event, offer.awaits)}?",
            refused="",
            words=words_of(offer.event, offer.awaits),
            rollout=rollout,
            token=token,
            action=PAGE,
        )
        return HTMLResponse(page, headers=quiet)

    @app.post(PAGE, include_in_schema=False)
    def act(used: Used) -> Response:
        try:
            return HTMLResponse(escape(links.use(used)))
        except DriftloopError as error:
            return HTMLResponse(escape(str(error)), status_of(error), headers_of(error))
