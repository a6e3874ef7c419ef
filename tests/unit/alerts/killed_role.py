"""The alerts role in processes that are killed; see test_killed_between_commit_and_send.

Run as a program: each line on standard input is a seed, and forks a process that runs cycles until
it is killed with SIGKILL, by itself at a random moment.
"""

import os
import random
import signal
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

from driftloop_alerts.cycle import AlertsCycle
from driftloop_alerts.dispatcher import Dispatcher
from driftloop_alerts.message import Message
from driftloop_alerts.routing import routes_of
from driftloop_alerts.senders.building import sender_for
from driftloop_alerts.senders.port import Sender
from driftloop_alerts.store_reader import StoreReader
from driftloop_contracts.clock import system_clock
from driftloop_settings import Settings
from driftloop_store import Store
from driftloop_store.engine import make_engine

MOST_CYCLES = 500


class Deadly:
    """A sender whose process is killed before or after it sends."""

    def __init__(self, sender: Sender, death: str) -> None:
        self._sender = sender
        self._death = death

    def send(self, message: Message) -> None:
        if self._death == "before":
            die()
        self._sender.send(message)
        if self._death == "after":
            die()

    def close(self) -> None:
        self._sender.close()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(settings: Settings, death: str, cycles: int = MOST_CYCLES) -> None:
    """Cycles without a pause, each until what it started has ended."""
    store = Store(make_engine(settings.store_url))  # its tables are there
    alerts = settings.alerts
    senders = {r.name: Deadly(sender_for(r, alerts), death) for r in alerts.routes}
    dispatcher = Dispatcher(store, senders)
    routes = [replace(route, collect=timedelta(0)) for route in routes_of(alerts)]
    reader = StoreReader(store, settings)
    cycle = AlertsCycle(store, reader, routes, dispatcher, "http://console", ZoneInfo("UTC"))
    for _ in range(cycles):
        cycle.step(system_clock())
        dispatcher.wait()
    cycle.close()
    store.close()


def main() -> None:
    settings = Settings.model_validate_json(sys.argv[1])
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its log; the answers go there
            rng = random.Random(int(line))
            death = rng.choice(["before", "after", "any time"])
            if death == "any time":
                threading.Timer(rng.uniform(0.0, 0.1), die).start()
            run(settings, death)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
