"""Sends the deliveries that are due, each route for itself: one that hangs holds up no other.

Order: a delivery is committed as pending → sent → committed as sent. Killed between the last two,
it is sent again, with the same idempotency key: at least once.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

import structlog

from driftloop_alerts.message import Message
from driftloop_alerts.retry import after_failure, after_success
from driftloop_alerts.senders.port import Sender, Undelivered
from driftloop_contracts.clock import Clock, system_clock
from driftloop_contracts.incident import Delivery, DeliveryState
from driftloop_store import Store, StoreAway

log = structlog.get_logger()

MOST_THREADS = 16


class Dispatcher:
    """senders: by the route's name. finish: adds to a message what the store does not keep."""

    def __init__(
        self,
        store: Store,
        senders: Mapping[str, Sender],
        clock: Clock = system_clock,
        finish: Callable[[Message], Message] = lambda message: message,
    ) -> None:
        self._store = store
        self._senders = senders
        self._clock = clock
        self._finish = finish
        self._pool = ThreadPoolExecutor(max(1, min(len(senders), MOST_THREADS)), "alerts-send")
        self._under_way: dict[str, Future[None]] = {}

    def pending(self) -> list[Delivery]:
        """All that is not sent, as the store has it. Raises StoreAway."""
        # In this order: what ends after the store was read is remembered as under way.
        self._under_way = {id_: f for id_, f in self._under_way.items() if not f.done()}
        return self._store.pending_deliveries()

    def send_due(self, pending: list[Delivery], now: datetime) -> None:
        """Start what is due; does not wait. pending: what `pending` said, and new ones."""
        for delivery in pending:
            if delivery.route not in self._senders:
                gone = "the settings have no such route any more"
                self._save(replace(delivery, state=DeliveryState.ABANDONED, error=gone))
            elif delivery.next_at <= now and delivery.id not in self._under_way:
                self._under_way[delivery.id] = self._pool.submit(self._send, delivery)

    def wait(self, timeout_s: float | None = None) -> None:
        """Until what was started has ended."""
        for future in list(self._under_way.values()):
            future.result(timeout_s)

    def close(self) -> None:
        """What is under way and not yet sent stays pending."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for sender in self._senders.values():
            sender.close()

    def _send(self, delivery: Delivery) -> None:
        try:
            message = self._finish(Message.from_dict(delivery.message))
            self._senders[delivery.route].send(message)
        except Undelivered as error:
            self._failed(delivery, str(error), error.retry_after_s)
        except Exception as error:  # a mistake of ours in a sender must not end in silence
            log.exception("alerts.sender_broke", route=delivery.route)
            self._failed(delivery, f"{type(error).__name__} in the sender; see the log", None)
        else:
            log.info("alerts.sent", route=delivery.route, delivery_id=delivery.id)
            self._save(after_success(delivery, self._clock()))

    def _failed(self, delivery: Delivery, reason: str, retry_after_s: float | None) -> None:
        failed = after_failure(delivery, reason, self._clock(), retry_after_s)
        log.warning(
            "alerts.undelivered",
            route=delivery.route,
            delivery_id=delivery.id,
            attempts=failed.attempts,
            reason=reason,
            next_at=failed.next_at.isoformat(),
        )
        self._save(failed)

    def _save(self, delivery: Delivery) -> None:
        try:
            self._store.save_delivery(delivery)
        except StoreAway:  # it stays pending as it was, and is sent again
            log.warning("alerts.not_recorded", delivery_id=delivery.id)
