"""The role `alerts`: every `alerts.interval_s`, incidents are brought up to date and sent."""

import threading
from zoneinfo import ZoneInfo

import structlog

from driftloop_alerts.cycle import AlertsCycle
from driftloop_alerts.dispatcher import Dispatcher
from driftloop_alerts.heartbeat import Heartbeat
from driftloop_alerts.routing import routes_of
from driftloop_alerts.senders.building import sender_for
from driftloop_alerts.senders.http_post import HttpPost
from driftloop_alerts.signed_links import Links, signer_of
from driftloop_alerts.store_reader import StoreReader
from driftloop_contracts.clock import Clock, system_clock
from driftloop_settings import Settings
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, StoreAway, await_store
from driftloop_store.cycle_health import SILENCE_S, CycleHealth
from driftloop_store.standby import Lease

log = structlog.get_logger()


def make_cycle(settings: Settings, store: Store, clock: Clock = system_clock) -> AlertsCycle:
    """The cycle of these settings. The holder of the lease runs it: two would send each message
    once, but group them worse."""
    alerts = settings.alerts
    senders = {route.name: sender_for(route, alerts) for route in alerts.routes}
    link = console_link(settings)
    with_links = {route.name for route in alerts.routes if route.links and alerts.links_s}
    links = Links(signer_of(settings), link, alerts.links_s, with_links)
    return AlertsCycle(
        store,
        StoreReader(store, settings),
        routes_of(alerts),
        Dispatcher(store, senders, clock, links.added),
        link,
        ZoneInfo(alerts.timezone),
    )


def console_link(settings: Settings) -> str:
    """The console's address, without a slash at its end."""
    control = settings.control
    return (settings.alerts.link or f"http://{control.host}:{control.port}").rstrip("/")


def run(settings: Settings, stop: threading.Event, clock: Clock = system_clock) -> None:
    """Run cycles until `stop` is set."""
    store = await_store(settings.store_url, stop)
    if store is None:
        return
    alerts = settings.alerts
    cycle, process = make_cycle(settings, store, clock), ThisProcess.of(settings)
    health = CycleHealth(store, "alerts", silence_s=SILENCE_S, process=process)
    lease = Lease(store, "alerts", process.machine)
    url = alerts.heartbeat_url.get_secret_value() if alerts.heartbeat_url else None
    heartbeat = Heartbeat(HttpPost(url, alerts.timeout_s), alerts.heartbeat_s) if url else None
    log.info("alerts.started", routes=[route.name for route in alerts.routes])
    while not stop.is_set():
        try:
            sends = lease.held(store.now())  # the same for machines whose clocks differ
            if sends:
                cycle.step(clock())
        except StoreAway:
            pass  # logged once by the store; what came meanwhile is sent when it is back
        except Exception as error:
            health.failed(error)
        else:
            health.succeeded()
            if heartbeat is not None and sends:
                heartbeat.beat(clock())
        stop.wait(alerts.interval_s)
    cycle.close()
    health.ended()
    lease.give_back()
    store.close()
