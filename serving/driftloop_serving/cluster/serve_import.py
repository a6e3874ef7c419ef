"""Imports Ray Serve without pandas, in the driver and in Ray's workers.

Serve imports pandas, if it is installed, only to encode data frames in answers, which no replica
of ours returns. It is a third of the time of `import ray.serve`, which a start does four times.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

HOOK = f"{__name__}.leave_pandas_out"
"""What Ray's workers call first, by `__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR`."""


class _NoPandasForServe(MetaPathFinder):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing; refuse pandas while Serve is being imported."""
        if fullname == "pandas" and _being_imported("ray.serve"):
            raise ModuleNotFoundError("Ray Serve is imported without pandas", name=fullname)
        return None


def _being_imported(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))  # as importlib itself asks


def leave_pandas_out() -> None:
    """Let a later `import ray.serve` not import pandas. Any other import of pandas succeeds."""
    if not any(isinstance(finder, _NoPandasForServe) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoPandasForServe())
