"""Whatever a role's process logs is one JSON object a line."""

import json
import subprocess
import sys

SCRIPT = """
import logging, warnings
import structlog
from driftloop_settings.logs import configure_logs

configure_logs()
structlog.get_logger().info("ours.happened", model="m")
try:
    raise ValueError("two\\nlines")
except ValueError:
    structlog.get_logger().exception("ours.broke")
    logging.getLogger("library").exception("theirs %s", "broke")
logging.getLogger("library").warning("theirs\\nhas two lines")
logging.getLogger("library").info("nobody asked")
warnings.warn("a warning")
"""


def test_our_events_and_those_of_libraries_have_one_form() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["event"].splitlines()[0].rpartition(": ")[2] for event in events] == [
        "ours.happened",
        "ours.broke",
        "theirs broke",
        "theirs",
        "a warning",
    ]
    assert {"model", "level", "timestamp"} <= events[0].keys()
    assert all("timestamp" in event and "level" in event for event in events)
    assert all("ValueError: two" in event["exception"] for event in events[1:3])
    assert events[3]["logger"] == "library"
