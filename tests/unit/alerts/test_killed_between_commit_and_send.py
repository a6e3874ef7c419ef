"""`kill -9` of the role, a hundred times: nothing that was committed is lost, and duplicates carry
the same idempotency key."""

import json
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import killed_role
from receiver import receiving

from driftloop_contracts.health import Degraded
from driftloop_settings import Settings
from driftloop_store import open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KILLS = 100


def test_nothing_is_lost_and_duplicates_have_the_same_key(tmp_path: Path) -> None:
    with receiving() as receiver:
        alerts = {
            "routes": [{"name": "hook", "to": f"{receiver.url}/x", "group_s": 0, "repeat_s": 0}],
        }
        given = {"state_dir": str(tmp_path), "alerts": alerts}
        settings = Settings(**given)
        with closing(open_store(settings.store_url)) as store:
            program = [sys.executable, killed_role.__file__, json.dumps(given)]
            with subprocess.Popen(
                program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as roles:
                assert roles.stdin is not None
                assert roles.stdout is not None
                codes = []
                for seed in range(KILLS):
                    store.put_degraded(Degraded(f"role{seed}", NOW, "it fails"))
                    roles.stdin.write(f"{seed}\n")
                    roles.stdin.flush()
                    codes.append(int(roles.stdout.readline()))
                roles.stdin.close()
            assert codes == [-9] * KILLS
            killed_after = len(receiver.requests)
            while store.pending_deliveries() or len(store.unresolved_incidents()) < KILLS or (
                store.waiting_notices()
            ):  # fmt: skip
                killed_role.run(settings, "never", cycles=1)
            incidents = {incident.id for incident in store.unresolved_incidents()}
    bodies, keys = defaultdict(set), defaultdict(set)
    for request in receiver.requests:
        key = request.headers["idempotency-key"]
        bodies[key].add(request.content)
        for entry in request.json["entries"]:
            keys[entry["incident"]].add(key)
    assert keys.keys() == incidents, "every incident was sent"
    assert {len(of_incident) for of_incident in keys.values()} == {1}
    assert {len(same) for same in bodies.values()} == {1}
    assert len(receiver.requests) > len(bodies), "some were sent twice: the kills hit"
    assert killed_after > 0
