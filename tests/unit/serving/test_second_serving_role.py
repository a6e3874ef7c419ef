"""Two `serving` roles on one store: each would overwrite what the other says of its replicas."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from command_line import eventually
from structlog.testing import capture_logs

from driftloop_serving.cluster import driver
from driftloop_settings import Settings
from driftloop_settings.ports import free_port
from driftloop_store import open_store
from driftloop_store.standby import Lease


def test_it_stands_by_until_the_first_has_left(tmp_path: Path) -> None:
    nobody = {"ray_address": f"127.0.0.1:{free_port()}"}
    settings = Settings(state_dir=tmp_path, serving=nobody)  # type: ignore[arg-type]
    store, stop = open_store(settings.store_url), threading.Event()
    first = Lease(store, "serving", "another machine")
    assert first.held(store.now())
    second = threading.Thread(target=driver.run, args=(settings, stop))
    with capture_logs() as logs:
        second.start()
        try:
            eventually(lambda: [each["event"] for each in logs], lambda e: "role.stands_by" in e)
            assert not _asked_ray(logs)
            first.give_back()
            eventually(lambda: logs, _asked_ray)
        finally:
            stop.set()
            second.join()
    assert first.held(store.now())  # it gave the lease back
    store.close()


def _asked_ray(logs: Sequence[Mapping[str, Any]]) -> bool:
    return any(each.get("reason") == "Ray does not answer" for each in logs)
