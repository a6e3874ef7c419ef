"""How busy this machine is with what does not give way."""

import psutil


class MachineLoad:
    """Not thread-safe."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def busy(self) -> float:
        """The share of all cores' time since the last call that went to processes of normal
        priority, to the kernel, or to other guests of the host."""
        before, now = self._before, psutil.cpu_times()
        spent = {name: getattr(now, name) - getattr(before, name) for name in now._fields}
        for inside in ("guest", "guest_nice"):  # they are in `user` and `nice`, too
            spent.pop(inside, None)
        total = sum(spent.values())
        if total <= 0:
            return 0.0
        self._before = now
        free = sum(spent.get(name, 0.0) for name in ("idle", "iowait", "nice"))
        return float(1.0 - free / total)
