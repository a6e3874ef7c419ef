"""Lets a language model's candidate answer conversations unseen, in the engine that holds it.

A thread asks one conversation after the other at the engine's private port and compares each answer
with the champion's, so the role never waits. An engine has time for it only beside few calls of
clients, and gives an answer up when more come; a conversation for which it has no time is dropped.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import structlog

from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX, column_type
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.shadow_call import PATH, ShadowCall
from driftloop_http.clients import own_client
from driftloop_rollout.answer_losses import AnswerLosses
from driftloop_rollout.shadow_pairs import beside
from driftloop_rollout.shadow_process import Answered, ShadowDied, ShadowRefused
from driftloop_rollout.shadow_rows import FAILED

log = structlog.get_logger()

Outputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """max_tokens: of an answer. busy_above: see `ShadowCall`. patience_s: how long a conversation
    waits for an engine with time for it. order_s: after which the rest of an order is dropped."""

    max_tokens: int = 512
    busy_above: int | None = None
    answer_s: float = 60.0
    patience_s: float = 3.0
    again_s: float = 0.25
    order_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """host:port of the engines that hold the candidate, or why they refuse it."""

    addresses: Sequence[str] = ()
    refused: str = ""


@dataclass(slots=True)
class _Order:
    rows: pa.Table
    done: threading.Event = field(default_factory=threading.Event)
    answered: Answered | None = None
    failed: ShadowDied | ShadowRefused | None = None


class EngineShadow:
    """A `ShadowGraph`. held: where the candidate is; losses: what compares the answers."""

    def __init__(
        self,
        model: str,
        version: int,
        held: Callable[[], Whereabouts],
        losses: AnswerLosses,
        limits: EngineLimits | None = None,
    ) -> None:
        self._model, self._version = model, version
        self._held = held
        self._losses = losses
        self._limits = limits or EngineLimits()
        self._order: _Order | None = None
        self._closed = threading.Event()

    @property
    def idle(self) -> bool:
        """Whether it can be asked. Raises ShadowRefused if engines cannot load the candidate."""
        if self._order is not None:
            return False
        where = self._held()
        if where.refused:
            raise ShadowRefused(where.refused)
        return bool(where.addresses)

    def ask(self, rows: pa.Table) -> None:
        """rows: of the champion, with `in_…` and `out_…`."""
        self._order = order = _Order(rows)
        threading.Thread(target=self._work, args=(order,), daemon=True).start()

    def answered(self) -> Answered | None:
        """The answers to what was asked, once they are there. Raises ShadowDied, or ShadowRefused
        if they cannot be compared."""
        order = self._order
        if order is None or not order.done.is_set():
            return None
        self._order = None
        if order.failed is not None:
            raise order.failed
        return order.answered

    def close(self) -> None:
        """The answer in progress ends by itself; no further one is asked for."""
        self._closed.set()

    def _work(self, order: _Order) -> None:
        try:
            order.answered = self._answers(order.rows)
        except ShadowDied as error:
            order.failed = error
        except Exception as error:  # an answer in an unknown form, or code of the user
            log.exception("rollout.shadow_broke", model=self._model)
            why = f"its answers cannot be compared ({type(error).__name__}: {error})"
            order.failed = ShadowRefused(why)
        finally:
            order.done.set()

    def _answers(self, rows: pa.Table) -> Answered:
        found: list[Outputs | None] = []
        seconds: list[float] = []
        began = time.monotonic()
        with own_client() as http:
            for row in rows.to_pylist():
                late = time.monotonic() - began > self._limits.order_s
                if late or self._closed.is_set():
                    found.append(None)
                    continue
                asked = time.monotonic()
                outputs = self._answer(http, row)
                found.append(outputs)
                if outputs is not None and FAILED not in outputs:
                    seconds.append(time.monotonic() - asked)
        kept = np.array([outputs is not None for outputs in found], bool)
        answers = _table([outputs for outputs in found if outputs is not None])
        mine = rows.filter(pa.array(kept))
        keys = mine.select(["prediction_id", "row"])
        theirs = answers.drop_columns(FAILED)
        for name in keys.column_names:
            theirs = theirs.append_column(name, keys[name])
        losses, why = self._losses.of(*beside(mine, _with_errors(theirs, answers[FAILED])))
        took_s = max(time.monotonic() - began, 1e-9)
        request_s = float(np.median(seconds)) if seconds else None
        return Answered(answers, len(seconds) / took_s, request_s, 0, kept, losses, why)

    def _answer(self, http: httpx.Client, row: Mapping[str, Any]) -> Outputs | None:
        """Return the outputs, {FAILED: why}, or None if no engine had time for it. Raises
        ShadowDied."""
        limits = self._limits
        texts = {name: row[INPUT_PREFIX + name] for name in ("operation", "messages", "parameters")}
        call = ShadowCall(
            self._model,
            self._version,
            **texts,
            max_tokens=limits.max_tokens,
            busy_above=limits.busy_above,
            limit_s=limits.answer_s,
        )
        until = time.monotonic() + limits.patience_s
        while True:
            for address in self._held().addresses:
                answer = self._asked(http, address, call)
                if answer is not None:
                    return answer
            if time.monotonic() > until or self._closed.wait(limits.again_s):
                return None

    def _asked(self, http: httpx.Client, address: str, call: ShadowCall) -> Outputs | None:
        timeout = httpx.Timeout(self._limits.answer_s + 10.0, connect=2.0)
        try:
            answer = http.post(
                f"http://{address}{PATH}",
                content=call.body(),
                headers=call.headers(),
                timeout=timeout,
            )
        except (httpx.ConnectError, httpx.TimeoutException):
            return None
        except httpx.HTTPError as error:
            raise ShadowDied(
                f"its engine ended while the candidate answered ({type(error).__name__})"
            ) from None
        if answer.status_code != httpx.codes.OK:
            return None
        outputs: Outputs = json.loads(answer.content)
        return outputs


def _table(outputs: Sequence[Outputs]) -> pa.Table:
    """The columns `out_…` and FAILED."""
    columns = {}
    for tensor in SIGNATURE.outputs:
        missing = nan if tensor.datatype == "FP32" else None
        values = [
            None if FAILED in row else missing if row[tensor.name] is None else row[tensor.name]
            for row in outputs
        ]
        columns[OUTPUT_PREFIX + tensor.name] = pa.array(values, column_type(tensor))
    columns[FAILED] = pa.array([FAILED in row for row in outputs], pa.bool_())
    return pa.table(columns)


def _with_errors(answers: pa.Table, failed: pa.ChunkedArray) -> pa.Table:
    texts = [FAILED if each else None for each in failed.to_pylist()]
    return answers.append_column("error", pa.array(texts, pa.string()))
