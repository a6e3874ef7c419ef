"""Reports the roles of this machine that die again and again: they cannot say so themselves."""

import threading
from collections.abc import Callable
from contextlib import suppress

from driftloop_settings.run_state import RunState
from driftloop_store import Store, StoreAway
from driftloop_store.cycle_health import CycleHealth

EVERY_S = 2.0
DEATHS = 3
"""The number of deaths in a row; a role that is killed once or twice is restarted at once."""


class RoleWatch:
    """running: returns the supervisor's last state; None if the roles run apart."""

    def __init__(
        self,
        store: Store,
        running: Callable[[], RunState | None],
        make_health: Callable[[Store, str], CycleHealth] = CycleHealth,
    ) -> None:
        self._store = store
        self._running = running
        self._make_health = make_health
        self._health: dict[str, CycleHealth] = {}

    def look(self) -> None:
        """Check once. Raises StoreAway."""
        running = self._running()
        for role in running.roles if running else ():
            name = f"{role.name}/process"
            if name not in self._health:
                self._health[name] = self._make_health(self._store, name)
            health = self._health[name]
            if role.deaths >= DEATHS:
                health.failed(
                    f"its process ended {role.deaths} times in a row, at last with {role.code}; "
                    f"see logs/{role.name}.log in the state directory"
                )
            elif not role.deaths:
                health.succeeded()

    def run(self, stop: threading.Event) -> None:
        """Check until stopped."""
        while not stop.wait(EVERY_S):
            with suppress(StoreAway):
                self.look()
