"""One cycle of the role: incidents from the store, notices from incidents, messages from notices.

Each step is committed before the next one reads it, and none remembers anything but caches: killed
anywhere, the next cycle continues.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from driftloop_alerts.conditions import conditions
from driftloop_alerts.dispatcher import Dispatcher
from driftloop_alerts.grouping import Batch, due
from driftloop_alerts.message import compose
from driftloop_alerts.reconciliation import reconcile, stable_id
from driftloop_alerts.routing import Route
from driftloop_alerts.store_reader import StoreReader
from driftloop_contracts.incident import Delivery, Incident, Notice
from driftloop_store import Store

log = structlog.get_logger()

KEPT = timedelta(days=30)
"""Deliveries that ended are deleted after that."""
FORGET_EVERY = timedelta(hours=1)


class AlertsCycle:
    """link: the console's address; zone: of the times in messages."""

    def __init__(
        self,
        store: Store,
        reader: StoreReader,
        routes: Sequence[Route],
        dispatcher: Dispatcher,
        link: str,
        zone: ZoneInfo,
    ) -> None:
        self._store = store
        self._reader = reader
        self._routes = routes
        self._dispatcher = dispatcher
        self._link = link
        self._zone = zone
        self._forgot_at: datetime | None = None

    def step(self, now: datetime) -> None:
        """Raises StoreAway."""
        pending = self._dispatcher.pending()
        seen = self._reader.read(now, pending)
        found = conditions(seen)
        changes = reconcile(self._store.unresolved_incidents(), found, self._routes, now)
        written = self._store.write_incidents(changes) if changes else []
        for incident in written:
            log.info(
                "alerts.incident",
                incident=incident.id,
                model=incident.model,
                cause=incident.cause,
                state=incident.state,
            )
        pending += self._group(pending, now)
        self._dispatcher.send_due(pending, now)
        if self._forgot_at is None or now - self._forgot_at >= FORGET_EVERY:
            self._store.forget_deliveries(now - KEPT)
            self._forgot_at = now

    def close(self) -> None:
        """What is not sent stays pending."""
        self._dispatcher.close()

    def _group(self, pending: Sequence[Delivery], now: datetime) -> list[Delivery]:
        """Commit the messages that are due. A route with one under way gets no other: what waits
        is sent in one message when the receiver is back."""
        waiting: dict[str, list[Notice]] = {}
        for notice in self._store.waiting_notices():
            waiting.setdefault(notice.route, []).append(notice)
        if not waiting:
            return []
        known = {route.name for route in self._routes}
        for name in waiting.keys() - known:
            self._store.drop_notices(waiting[name])
        busy = {delivery.route for delivery in pending}
        last = self._store.last_deliveries()
        made = []
        for route in self._routes:
            notices = waiting.get(route.name)
            if not notices or route.name in busy:
                continue
            incidents = self._incidents(notices)
            batch = due(route, notices, incidents, last.get(route.name), now)
            if batch is not None:
                made += self._deliver(route, batch, now)
        return made

    def _incidents(self, notices: Sequence[Notice]) -> Mapping[str, Incident]:
        return self._store.incidents_by_id({notice.incident for notice in notices})

    def _deliver(self, route: Route, batch: Batch, now: datetime) -> list[Delivery]:
        if not batch.items:
            self._store.drop_notices(batch.notices)
            return []
        id_ = stable_id(route.name, *(notice.id for notice in batch.notices))
        message = compose(id_, route.name, batch.items, self._link, self._zone, now)
        delivery = Delivery(
            id=id_, route=route.name, at=now, next_at=now, message=message.to_dict()
        )
        return [delivery] if self._store.add_delivery(delivery, batch.notices) else []
