"""What the pages are made from."""

from collections.abc import Callable
from dataclasses import dataclass, field

from driftloop_console.fleet_records import FleetRecords
from driftloop_contracts.clock import Clock
from driftloop_settings import Settings
from driftloop_settings.run_state import RunState
from driftloop_store import Store


@dataclass(frozen=True, slots=True)
class ConsoleContext:
    """run_state: what the supervisor wrote last, None if roles run apart. stopping: whether the
    process is asked to end, so that no open page holds it up."""

    settings: Settings
    store: Store
    run_state: Callable[[], RunState | None]
    clock: Clock
    stopping: Callable[[], bool] = lambda: False
    fleet: FleetRecords = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fleet", FleetRecords(self.settings, self.store))
