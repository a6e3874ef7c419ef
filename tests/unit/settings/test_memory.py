import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from driftloop_settings.memory import HEAPS

BLOCKS, BLOCK_BYTES = 50_000, 2_000

PROGRAM = f"""
import os, time
from pathlib import Path
from driftloop_settings.memory import keep_trimmed

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

blocks = [bytearray({BLOCK_BYTES}) for _ in range({BLOCKS})]
full = resident_bytes()
del blocks[:-1]  # the last one lies above all the others
kept = full - resident_bytes()
keep_trimmed(every_s=0.01)
deadline = time.monotonic() + 30
while full - resident_bytes() < {BLOCKS * BLOCK_BYTES} * 0.9 and time.monotonic() < deadline:
    time.sleep(0.01)
print(kept, full - resident_bytes())
"""

ARROW = """
from driftloop_settings.memory import keep_trimmed

keep_trimmed()
import pyarrow

print(pyarrow.default_memory_pool().backend_name)
"""

HEAPS_IN_USE = """
import ctypes, sys, threading
from pathlib import Path
from driftloop_settings.memory import keep_trimmed

keep_trimmed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
met = threading.Barrier(8)

def allocate():
    met.wait()
    libc.malloc(2_000)
    met.wait()

threads = [threading.Thread(target=allocate) for _ in range(met.parties)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
told = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, told)
libc.fclose(told)
print(Path(sys.argv[1]).read_text().count("<heap nr="))
"""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc is asked to give back"
)


def test_what_was_freed_below_a_block_in_use_goes_back_to_the_machine() -> None:
    by_itself, in_the_end = map(int, _printed(PROGRAM).split())
    assert by_itself < in_the_end * 0.5
    assert in_the_end >= BLOCKS * BLOCK_BYTES * 0.9


def test_arrow_allocates_where_freed_memory_is_given_back() -> None:
    assert _printed(ARROW).strip() == "system"


def test_many_threads_share_few_heaps(tmp_path: Path) -> None:
    assert int(_printed(HEAPS_IN_USE, str(tmp_path / "told.xml"))) <= HEAPS


def _printed(program: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    ).stdout
