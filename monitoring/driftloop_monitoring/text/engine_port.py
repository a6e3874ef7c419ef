"""Asks the engine that serves a version for the likelihood of texts, at the address reported by its
replica."""

import time
from collections.abc import Sequence

import httpx

from driftloop_contracts.likelihood import NATS, PATH, LikelihoodCall
from driftloop_http.clients import own_client


def nats_per_token(
    addresses: Sequence[str], calls: Sequence[LikelihoodCall], limit_s: float
) -> tuple[list[float], str]:
    """Return a value for each text that was scored within `limit_s` seconds, in order, and why it
    ended early, or "". Texts that the model does not accept are skipped. addresses: host:port of
    the engines."""
    found: list[float] = []
    until = time.monotonic() + limit_s
    with own_client() as http:
        for call in calls:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return found, "the time limit was reached"
            answer = _asked(http, addresses, call, left_s)
            if isinstance(answer, str):
                return found, answer
            if answer.status_code == httpx.codes.OK:
                found.append(float(answer.json()[NATS]))
    return found, ""


def _asked(
    http: httpx.Client, addresses: Sequence[str], call: LikelihoodCall, limit_s: float
) -> httpx.Response | str:
    """Return the answer of the first engine that has one, or why none has."""
    why = "no engine holds the version"
    for address in addresses:
        try:
            answer = http.post(
                f"http://{address}{PATH}",
                content=call.body(),
                headers=call.headers(),
                timeout=limit_s,
            )
        except httpx.HTTPError as error:
            why = f"its engine did not answer ({type(error).__name__})"
            continue
        if answer.status_code < 500:
            return answer
        why = f"its engine answered with {answer.status_code}"
    return why
