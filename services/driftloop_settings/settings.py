"""The settings, their defaults and where they come from.

Every value has a place `section.key`: in `driftloop.toml` under `[section]`, in the environment as
`DRIFTLOOP_SECTION__KEY`, on the command line as `--set section.key=value` (a later source wins).
Durations carry `_s` (seconds) or `_hours`, sizes `_bytes` or `_mb`.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    SecretStr,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from driftloop_contracts.errors import Rejected

ENV_PREFIX = "DRIFTLOOP_"
WITH_SECRETS = "with secrets"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServingSettings(Section):
    ingress: Literal["haproxy", "direct"] = "haproxy"
    """direct: replicas own the port. haproxy: Ray Serve's proxy stands in front."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    grpc_port: int = Field(8002, ge=0, le=65535)
    """Of the protocol's gRPC form; replicas own it in either ingress."""
    replicas: int = Field(1, ge=1)
    min_replicas: int | None = Field(None, ge=1)
    max_replicas: int | None = Field(None, ge=1)
    """Between these the number of replicas follows the load; None: `replicas`."""
    target_load: float = Field(0.6, gt=0, lt=1)
    """The share of a core that each replica is to use; its event loop has no more than one."""
    scale_up_after_s: float = Field(5.0, ge=0)
    scale_down_after_s: float = Field(120.0, ge=0)
    """How long the load must ask for it."""
    replica_cpus: float = Field(0.2, gt=0)
    ray_address: str | None = None
    """An existing Ray cluster; None: `driftloop up` starts one on this machine."""
    ray_port: int = Field(0, ge=0, le=65535)
    body_limit_bytes: int = Field(16 << 20, ge=1)
    request_timeout_s: float = Field(30.0, gt=0)
    """How long a request may wait for its run."""
    keep_previous: int = Field(1, ge=0)
    """How many former champions stay loaded."""

    @property
    def scale(self) -> tuple[int, int]:
        """The least and the most replicas."""
        return self.min_replicas or self.replicas, self.max_replicas or self.replicas

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> "ServingSettings":
        least, most = self.scale
        if least > most:
            raise ValueError(f"at least {least} replicas and at most {most} cannot be")
        return self


class CaptureSettings(Section):
    durability: Literal["spooled", "fsync", "acked", "memory"] = "spooled"
    """What has happened to a prediction before its answer leaves. spooled: it is in a file, which
    survives a kill of the process. fsync: it is on the disk itself, which survives power loss.
    acked: Kafka has acknowledged it, which survives the machine. memory: it is in `memory_dir`,
    which survives a kill, not a reboot, and costs no disk."""
    ack_timeout_s: float = Field(2.0, gt=0)
    """acked: an answer leaves after this long without an acknowledgement, counted as `weaker`;
    until Kafka acknowledges again, those behind it do not wait."""
    memory_dir: Path = Path("/dev/shm")
    """A file system in memory, for durability `memory`."""
    sample: float = Field(1.0, ge=0, le=1)
    """The share of the predictions that is captured, chosen by their id; a model's
    `options.capture.sample` goes before it. The others are counted as dropped, `sampled`."""
    hash_key: SecretStr | None = None
    """The secret of the rule `hash` of `options.capture`: hashes of one key compare."""
    segment_bytes: int = Field(8 << 20, ge=1 << 16)
    quota_bytes: int = Field(1 << 30, ge=1 << 16)
    """Per replica: when this much waits for Kafka, predictions are dropped from capture,
    counted."""
    pack_seconds: float = Field(0.2, gt=0)
    """How long the shipper gathers predictions into one record."""
    pack_rows: int = Field(5_000, ge=1)

    @field_serializer("hash_key", when_used="json")
    def _for_replicas(self, key: SecretStr | None, info: FieldSerializationInfo) -> str | None:
        """Replicas get their settings as JSON, with `context=WITH_SECRETS`; all others see
        stars."""
        if key is None:
            return None
        return key.get_secret_value() if info.context == WITH_SECRETS else str(key)


class KafkaSettings(Section):
    bootstrap_servers: str | None = None
    """A cluster of your own; None: `driftloop up` runs a single-node Apache Kafka."""
    port: int = Field(9092, ge=0, le=65535)
    heap_mb: int = Field(384, ge=128)
    partitions: int = Field(2, ge=1)
    retention_hours: int = Field(72, ge=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None


class LakeSettings(Section):
    uri: str | None = None
    """Where the Delta tables lie, a path or `s3://bucket/prefix` (its credentials, region and
    endpoint from the environment, `AWS_…`); None: `lake` under the state directory."""
    flush_rows: int = Field(20_000, ge=1)
    flush_seconds: float = Field(2.0, gt=0)
    compact_files: int = Field(50, ge=2)
    """So many small files of a table are rewritten as large ones."""
    vacuum_hours: int = Field(8, ge=1)
    """How long a version of a table stays readable that no model version and no retrain pins."""
    retention_days: int | None = Field(None, ge=1)
    """Predictions, labels and dead letters of older days are dropped, but stay in pinned versions;
    None: they are kept for ever."""


class MonitoringSettings(Section):
    interval_s: float = Field(2.0, gt=0)
    window_rows: int = Field(2_000, ge=100)
    window_least_seconds: float = Field(5.0, ge=0)
    """A window spans at least this long: with much traffic it has more rows."""
    window_seconds: float = Field(3_600.0, gt=0)
    """A time window closes even with few rows; below `min_rows` it is inconclusive."""
    min_rows: int = Field(500, ge=10)
    reference_rows: int = Field(20_000, ge=1_001)
    """Rows of the champion's training data that windows are compared with."""
    drift_effect: float = Field(0.1, gt=0)
    drift_significance: float = Field(0.001, gt=0, lt=1)
    """Family-wise: divided by the number of columns."""
    performance_margin: float = Field(0.01, gt=0)
    """A rise of the mean error (of the loss in [0, 1]) that is worth an alert."""
    average_run_length: float = Field(1e5, gt=1)
    """Labelled rows between two false alerts of the performance test, at least, on average."""
    label_coverage: float = Field(0.95, gt=0, le=1)
    """The share of rows that must have their label before rows are judged by them."""
    label_timeout_s: float = Field(86_400.0, gt=0)
    """Rows older than this are judged by the labels they have."""


class TriggerSettings(Section):
    cooldown_s: float = Field(3_600.0, ge=0)
    min_fresh_labels: int = Field(2_000, ge=0)
    schedule: str | None = None
    """Cron expression of the regular retrain, e.g. `0 3 * * *`; None: only on alerts."""
    timezone: str = "UTC"


class RetrainSettings(Section):
    families: tuple[str, ...] = ("gradient-boosting", "tabular-network")
    max_rows: int = Field(200_000, ge=100)
    validation_share: float = Field(0.15, gt=0, lt=0.5)
    holdout_share: float = Field(0.15, gt=0, lt=0.5)
    min_improvement: float = Field(0.0)
    """The candidate's hold-out metric must be better than the champion's by more than this."""
    max_regression: float = Field(0.05, ge=0)
    """How much worse the candidate may be on any slice."""
    min_slice_rows: int = Field(100, ge=1)
    parity_tolerance: float = Field(1e-4, gt=0)
    deadline_s: float = Field(3_600.0, gt=0)
    nice: int = Field(10, ge=0, le=19)
    seed: int = 0


class RolloutSettings(Section):
    auto_start: bool = True
    """Start a rollout for each candidate that passes the gate."""
    steps: tuple[float, ...] = (0.05, 0.25, 0.5, 1.0)
    """The canary's shares of the traffic, ascending; 1 is the promotion, whether written or not."""
    interval_s: float = Field(1.0, gt=0)
    quality_margin: float = Field(0.02, gt=0)
    error_margin: float = Field(0.01, gt=0)
    latency_margin: float = Field(0.1, gt=0)
    """Allowed rise of the share of requests above the champion's 95th percentile."""
    label_age_s: float = Field(0.0, ge=0)
    """Only predictions at least this old are compared, so that nearly all labels are in."""
    label_coverage: float = Field(0.98, gt=0, le=1)
    """Rows are compared once this share of them is labelled in either arm."""
    latency_floor_s: float = Field(0.05, ge=0)
    """A request faster than this is never slow, whatever the champion's 95th percentile."""
    promote_unlabelled: bool = True
    """Whether a model whose quality is not judged (it has no `task`) may be promoted on errors and
    latency alone; false: it is held until an operator promotes it."""
    load_timeout_s: float = Field(300.0, gt=0)
    """A candidate that replicas do not hold after this long is rolled back."""
    deadline_s: float = Field(7 * 86_400.0, gt=0)
    """A rollout without a verdict after this long is rolled back."""


class LlmSettings(Section):
    """Language models (runtime `vllm`)."""

    roots: tuple[str, ...] = ()
    """Folders and URI prefixes that weights may lie under, beside the state directory."""
    request_timeout_s: float = Field(600.0, gt=0)
    """How long an answer may take from its request to its last token."""
    nice: int = Field(5, ge=0, le=19)
    """Of engines without a GPU, which would take every core: other models go before them."""

    tune_answers: int = Field(20_000, ge=1)
    """The newest answers with feedback that a fine-tune reads. A model's own values of `tune_…`
    stand in its spec, without the prefix, under `options.tune`."""
    tune_min_examples: int = Field(50, ge=1)
    """With fewer corrected and well-rated answers (or pairs) to train on, nothing is trained."""
    tune_min_rating: float = Field(0.8, ge=0, le=1)
    """An answer rated at least so is trained on."""
    tune_max_tokens: int = Field(1_024, ge=16)
    """Prompt and answer together; longer ones are left out."""
    tune_replay_share: float = Field(0.1, ge=0, lt=1)
    """Of the examples: unrated answers, of versions rated well on average, against forgetting."""
    tune_holdout_share: float = Field(0.2, gt=0, lt=0.5)
    tune_validation_share: float = Field(0.1, gt=0, lt=0.5)
    """Shares of the prompts: for the gate (the newest prompts), and to stop the training by."""
    tune_holdout_answers: int = Field(200, ge=20)
    tune_rank: int = Field(16, ge=1, le=512)
    tune_alpha: float = Field(32.0, gt=0)
    tune_targets: str = "all-linear"
    """Modules that get an adapter, comma-separated."""
    tune_learning_rate: float = Field(1e-3, gt=0)
    tune_epochs: float = Field(3.0, gt=0)
    tune_steps: int = Field(120, ge=1)
    """The training ends with whichever comes first."""
    tune_batch: int = Field(8, ge=1)
    tune_packing: bool = False
    """lora-sft: several answers of a batch in one row, none of which sees another; a step stays the
    same step, with less padding. A model that cannot do that is refused."""
    tune_patience: int = Field(3, ge=1)
    """So many looks at the validation loss without a better one end the training."""
    tune_from_champion: bool = True
    """Whether an adapter is trained on from the champion's, if that is one, or from nothing."""
    tune_beta: float = Field(0.1, gt=0)
    """lora-dpo: how strongly it holds to where it started from."""
    tune_device: Literal["auto", "cpu", "cuda"] = "auto"
    tune_threads: int = Field(0, ge=0)
    """Without a GPU; 0: one for each core."""
    tune_ray_address: str = Field("", pattern=r"^([^/:\s]+:\d+)?$")
    """HOST:PORT of a Ray cluster to train on, of which this machine is a node; "": train here."""
    tune_workers: int = Field(1, ge=1)
    """On that cluster, each on its share of every batch; with a GPU of its own where `tune_device`
    is cuda, or auto and there are enough."""
    tune_worker_cpus: float = Field(1.0, gt=0)
    """What each worker asks of Ray, and its threads where `tune_threads` is 0."""
    tune_generated: int = Field(16, ge=0)
    """Held-out prompts that champion and candidate answer, for the report and the scorer."""
    tune_generated_tokens: int = Field(64, ge=1)
    tune_max_regression: float = Field(0.05, ge=0, le=1)
    """How far scorer and regression suite may fall, in shares of 1."""
    tune_max_forgetting: float = Field(2.0, gt=0)
    """How much dearer the base's own answers to general prompts may become, in nats per token."""

    rating_age_s: float = Field(300.0, gt=0)
    """An answer is judged by its rating once it is this old: most who rate have done so by then.
    Those that nobody rated count for nothing."""
    rating_margin: float = Field(0.05, gt=0, lt=1)
    """A fall of the mean rating that matters: it alerts, and a canary must be shown not to have
    it."""
    format_margin: float = Field(0.05, gt=0, lt=1)
    """A rise of the share of malformed answers that rolls a canary back."""
    judge_latency: bool = False
    """Whether a canary's seconds per token count. Not without a GPU, where every adapter is slower
    than its base."""
    reference_answers: int = Field(1_001, ge=200)
    """The first answers of a version are what its later ones are compared with. Drift is judged
    from 1,001 on; the ratings of at least 200 of them are the baseline of its rating."""
    min_ratings: int = Field(200, ge=0)
    """Rated answers that a retrain needs which an alert or the schedule asks for, as
    `trigger.min_fresh_labels` of other models."""
    min_corrections: int | None = Field(200, ge=1)
    """So many answers corrected, or set behind a better one, since the last retrain start the next;
    None: they never do."""
    max_perplexity_rise: float | None = Field(0.5, gt=0)
    """A rise that warns: of the nats per token of corrected texts under the served version. None:
    its engine is not asked."""

    judge_url: str | None = Field(None, pattern=r"^https?://[^/@?#]+(/[^@?#]*)?$")
    """A judge of answers behind OpenAI's API, as `base_url` of its clients, such as
    http://127.0.0.1:9000/v1. It is sent conversations and answers."""
    judge_model: str | None = None
    judge_key_env: str | None = None
    """The environment variable with the key for `judge_url`; None: it needs none."""
    judge_answers: int = Field(64, ge=2)
    """The most that a look of the monitor has scored; half of them of the windows that it
    closes."""
    judge_timeout_s: float = Field(10.0, gt=0)
    """How long that may take."""
    judge_min_rated: int = Field(100, ge=20)
    judge_min_auc: float = Field(0.7, gt=0.5, lt=1)
    """A judge counts once it scored so many answers that people rated too, and ranks a well-rated
    above a badly rated one with at least this probability, by a lower 95 % bound."""

    @model_validator(mode="after")
    def _judge_has_a_model(self) -> "LlmSettings":
        if self.judge_url is not None and self.judge_model is None:
            raise ValueError("judge_url needs judge_model, the model's name at that endpoint")
        return self


class ControlSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(8001, ge=0, le=65535)


class RegistrySettings(Section):
    uri: str | None = None
    """MLflow's tracking and registry URI; None: SQLite under the state directory."""


class StoreSettings(Section):
    url: str | None = None
    """SQLAlchemy URL; None: SQLite under the state directory."""


class Settings(BaseSettings):
    """All of it. Build it with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    state_dir: Path = Path(".driftloop")
    serving: ServingSettings = ServingSettings()
    capture: CaptureSettings = CaptureSettings()
    kafka: KafkaSettings = KafkaSettings()
    lake: LakeSettings = LakeSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    trigger: TriggerSettings = TriggerSettings()
    retrain: RetrainSettings = RetrainSettings()
    rollout: RolloutSettings = RolloutSettings()
    llm: LlmSettings = LlmSettings()
    control: ControlSettings = ControlSettings()
    registry: RegistrySettings = RegistrySettings()
    store: StoreSettings = StoreSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # load_settings merges the file, the environment and --set itself, to name what it refuses.
        return (init_settings,)

    @property
    def store_url(self) -> str:
        return self.store.url or f"sqlite:///{self.state_dir / 'store.db'}"

    @property
    def lake_uri(self) -> str:
        return self.lake.uri or str(self.state_dir / "lake")

    @property
    def registry_uri(self) -> str:
        return self.registry.uri or f"sqlite:///{self.state_dir / 'mlflow.db'}"

    @property
    def spool_dir(self) -> Path:
        """Where predictions wait for Kafka."""
        on_disk, in_memory = self.spool_dirs
        return in_memory if self.capture.durability == "memory" else on_disk

    @property
    def spool_dirs(self) -> tuple[Path, Path]:
        """On disk and in memory: what `capture.durability` was before may have left something."""
        place = blake2b(str(self.state_dir).encode(), digest_size=8).hexdigest()
        return self.state_dir / "spool", self.capture.memory_dir / f"driftloop-{place}"

    @property
    def reports_dir(self) -> Path:
        return self.state_dir / "reports"


def load_settings(
    overrides: Sequence[str] = (),
    *,
    state_dir: Path | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings from `file` (default `driftloop.toml` where there is one), `environ` and `overrides`
    (`section.key=value`, values in YAML). `state_dir` wins over all. The state directory comes back
    absolute. Raises Rejected, naming the source, the key and the nearest known one."""
    merged: dict[str, Any] = {}
    path = file or Path("driftloop.toml")
    if file is not None or path.is_file():
        try:
            document = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise Rejected(f"settings file {path}: {error}") from None
        for keys, value in _leaves(document):
            _put(merged, keys, value, str(path))
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX):
            keys = tuple(part.lower() for part in name[len(ENV_PREFIX) :].split("__"))
            _put(merged, keys, _value(text), f"environment variable {name}")
    for item in overrides:
        key, found, text = item.partition("=")
        if not found:
            raise Rejected(f"--set {item}: write section.key=value")
        _put(merged, tuple(key.strip().split(".")), _value(text), f"--set {key}")
    if state_dir is not None:
        merged["state_dir"] = state_dir
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Rejected(f"setting {place}: {first['msg']}") from None
    return settings.model_copy(update={"state_dir": settings.state_dir.expanduser().absolute()})


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _leaves(
    value: Mapping[str, Any], keys: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            found.extend(_leaves(item, (*keys, key)))
        else:
            found.append(((*keys, key), item))
    return found


def known_keys() -> list[str]:
    """Every setting as `section.key`."""
    keys: list[str] = []
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            keys.extend(f"{name}.{key}" for key in section.model_fields)
        else:
            keys.append(name)
    return keys


def _put(target: dict[str, Any], keys: tuple[str, ...], value: Any, source: str) -> None:
    dotted = ".".join(keys)
    known = known_keys()
    if dotted not in known:
        nearest = get_close_matches(dotted, known, n=1, cutoff=0.0)[0]
        raise Rejected(f"{source}: unknown setting `{dotted}`; did you mean `{nearest}`?")
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    target[keys[-1]] = value
