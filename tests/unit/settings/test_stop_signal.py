import signal
import subprocess
import sys

import pytest

WAITER = """
import os, signal, threading
from driftloop_settings.stop_signal import stop_on_signals
stop = threading.Event()
stop_on_signals(stop)
with stop._cond:  # as the main thread holds it for moments of each wait
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):  # Python handles the signal here
        pass
print(stop.wait(10))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_event_is_locked_still_sets_it(number: signal.Signals) -> None:
    code = WAITER.format(name=number.name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
