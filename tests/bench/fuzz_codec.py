"""Whether any request breaks the codec: `make fuzz ARGS="[cases] [seed]"`.

Prints how many requests were accepted and rejected, the slowest one, and the seed of each that did
neither; exits with 1 if there is one.
"""

import sys
import time
from collections import Counter

from codec_cases import case, outcome


def main(cases: int = 100_000, first: int = 0) -> int:
    counts: Counter[str] = Counter()
    slowest_s, slowest = 0.0, first
    for seed in range(first, first + cases):
        request = case(seed)
        began = time.perf_counter()
        try:
            counts[f"{type(request.form).__name__} {outcome(request)}"] += 1
        except Exception as error:
            counts["broke"] += 1
            print(f"case {seed}: {error!r}")
        took_s = time.perf_counter() - began
        if took_s > slowest_s:
            slowest_s, slowest = took_s, seed
    for name, count in sorted(counts.items()):
        print(f"{name:20} {count:8}")
    print(f"slowest: case {slowest}, {slowest_s * 1000:.1f} ms")
    return int(counts["broke"] > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
