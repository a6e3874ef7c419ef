"""Settings of the replicas: how they answer, and what they capture."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    FieldSerializationInfo,
    SecretStr,
    field_serializer,
    model_validator,
)

from driftloop_settings.addresses import host_name, ray_cluster
from driftloop_settings.section import Section

WITH_SECRETS = "with secrets"


Ingress = Literal["haproxy", "direct"]


def _ingress(given: dict[str, Any]) -> Ingress:
    return "direct" if given.get("ray_address") is None else "haproxy"


class ServingSettings(Section):
    ray_address: Annotated[str | None, AfterValidator(ray_cluster)] = None
    """An existing Ray cluster; None: `driftloop up` starts one on this machine."""
    ray_port: int = Field(0, ge=0, le=65535)
    """The TCP port of the Ray head that `driftloop up` starts; 0: any free one."""
    ingress: Ingress = Field(default_factory=_ingress)
    """direct: replicas accept connections themselves; the default. haproxy: Ray Serve's proxy is in
    front of them; the default if `serving.ray_address` names a cluster."""
    host: Annotated[str, AfterValidator(host_name)] = "127.0.0.1"
    """The address that the inference ports listen on."""
    port: int = Field(8000, ge=0, le=65535)
    """The TCP port of the HTTP inference API; 0: any free one."""
    grpc_port: int = Field(8002, ge=0, le=65535)
    """The TCP port of the gRPC inference API, where replicas accept with either ingress; 0: any
    free one."""
    replicas: int = Field(1, ge=1, le=1_000)
    """The number of replicas, unless it follows the load."""
    min_replicas: int | None = Field(None, ge=1, le=1_000)
    """The least number of replicas if it follows the load; None: `replicas`."""
    max_replicas: int | None = Field(None, ge=1, le=1_000)
    """The largest number of replicas if it follows the load; None: `replicas`."""
    target_load: float = Field(0.6, gt=0, lt=1)
    """The share of a core that each replica should use; its event loop can use at most one core."""
    scale_up_after_s: float = Field(5.0, ge=0)
    """Seconds for which the load must need more replicas before they are started."""
    scale_down_after_s: float = Field(120.0, ge=0)
    """Seconds for which the load must allow fewer replicas before any is stopped."""
    replica_cpus: float = Field(0.2, ge=0.0001, le=1_024)
    """The CPU cores that each replica reserves in Ray."""
    body_limit_bytes: int = Field(16 << 20, ge=1)
    """The largest request body in bytes; a larger one is answered with 413."""
    request_timeout_s: float = Field(30.0, gt=0)
    """Seconds that a request may wait for its run."""
    load_timeout_s: float = Field(300.0, gt=0)
    """Seconds that a deployed graph may take to be loaded and run once, in a separate process."""
    load_memory_bytes: int | None = Field(None, ge=1 << 20)
    """Bytes of memory that a deployed graph may use for that; None: 2 GiB plus four times the size
    of its files."""
    graph_memory_mb: int | None = Field(None, ge=1)
    """Megabytes of memory for the graphs of each replica. Those asked least recently leave it, and
    are loaded again when they are asked; None: all stay."""
    keep_previous: int = Field(1, ge=0)
    """The number of former champions that stay loaded."""

    @property
    def scale(self) -> tuple[int, int]:
        """The least and the largest number of replicas."""
        return self.min_replicas or self.replicas, self.max_replicas or self.replicas

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> "ServingSettings":
        least, most = self.scale
        if least > most:
            raise ValueError(f"there cannot be at least {least} replicas and at most {most}")
        return self


class CaptureSettings(Section):
    durability: Literal["spooled", "fsync", "acked", "memory"] = "spooled"
    """What must have happened to a prediction before its answer is sent. spooled: it is in a file,
    which survives a kill of the process. fsync: it is on the disk, which survives a power failure.
    acked: Kafka has acknowledged it, which survives the loss of the machine. memory: it is in
    `memory_dir`, which survives a kill but not a reboot, and needs no disk."""
    ack_timeout_s: float = Field(2.0, gt=0)
    """acked: seconds after which an answer is sent without an acknowledgement, and counted as
    `degraded`; until Kafka acknowledges again, later answers do not wait."""
    memory_dir: Path = Path("/dev/shm")
    """An in-memory file system, for durability `memory`."""
    sample: float = Field(1.0, ge=0, le=1)
    """The share of the predictions that is captured, selected by their id; a model's
    `options.capture.sample` overrides it. The others are counted as dropped, `sampled`."""
    hash_key: SecretStr | None = None
    """The secret key for the rule `hash` of `options.capture`; hashes are only comparable with the
    same key."""
    segment_bytes: int = Field(8 << 20, ge=1 << 16, le=1 << 30)
    """The size of a spool file in bytes."""
    quota_bytes: int = Field(1 << 30, ge=1 << 16)
    """Bytes of spool per replica: when this much waits for Kafka, predictions are no longer
    captured, and are counted as dropped."""
    pack_seconds: float = Field(0.2, gt=0)
    """Seconds for which the shipper collects predictions into one record."""
    pack_rows: int = Field(5_000, ge=1)
    """The most rows in one record."""

    @field_serializer("hash_key", when_used="json")
    def _for_replicas(self, key: SecretStr | None, info: FieldSerializationInfo) -> str | None:
        """Include the secret for replicas, which get their settings as JSON with
        `context=WITH_SECRETS`; show stars to all others."""
        if key is None:
            return None
        return key.get_secret_value() if info.context == WITH_SECRETS else str(key)
