"""Which traces are sent, by the usual variables OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG.
Pure. A process decides by the trace id, so that all processes decide alike."""

from collections.abc import Mapping
from dataclasses import dataclass

from driftloop_contracts.errors import Rejected
from driftloop_telemetry.span import TraceContext

NAMES = ("always_on", "always_off", "traceidratio")
PARENT = "parentbased_"


@dataclass(frozen=True, slots=True)
class Sampler:
    """ratio: of the traces that begin here; by_parent: others follow their caller's decision."""

    ratio: float = 1.0
    by_parent: bool = True

    def wants(self, context: TraceContext, parent: TraceContext | None) -> bool:
        if self.by_parent and parent is not None:
            return parent.sampled
        return int(context.trace_id[-14:], 16) >= (1.0 - self.ratio) * (1 << 56)


def read_sampler(environ: Mapping[str, str]) -> Sampler:
    """Raises Rejected, naming the variable."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"
    kind = name.removeprefix(PARENT)
    if kind not in NAMES:
        raise Rejected(
            f"OTEL_TRACES_SAMPLER={name[:50]}: it is {', '.join(NAMES)}, or one with {PARENT}"
        )
    ratio = {"always_on": 1.0, "always_off": 0.0}.get(kind, 1.0)
    if kind == "traceidratio" and (given := environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()):
        try:
            ratio = float(given)
        except ValueError:
            ratio = -1.0
        if not 0.0 <= ratio <= 1.0:
            raise Rejected(f"OTEL_TRACES_SAMPLER_ARG={given[:50]}: it is a share from 0 to 1")
    return Sampler(ratio, name.startswith(PARENT))
