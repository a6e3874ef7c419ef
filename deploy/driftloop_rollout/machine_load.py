"""How busy this machine is with what does not give way."""

import psutil

LEAST_S = 0.5
"""Of all cores' time: of less, the kernel's count of hundredths says little."""


class MachineLoad:
    """Not thread-safe."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()
        self._busy = 0.0

    def busy(self) -> float:
        """The share of all cores' time of late that went to processes of normal priority, to the
        kernel, or to other guests of the host; of several calls in a moment the same."""
        before, now = self._before, psutil.cpu_times()
        spent = {name: getattr(now, name) - getattr(before, name) for name in now._fields}
        for inside in ("guest", "guest_nice"):  # they are in `user` and `nice`, too
            spent.pop(inside, None)
        total = sum(spent.values())
        if total < LEAST_S:
            return self._busy
        self._before = now
        free = sum(spent.get(name, 0.0) for name in ("idle", "iowait", "nice"))
        self._busy = float(1.0 - free / total)
        return self._busy
