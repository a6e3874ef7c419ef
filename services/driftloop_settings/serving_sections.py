"""Settings of the replicas: how they answer, and what they capture of it."""

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
    """The number of replicas, if it does not follow the load."""
    min_replicas: int | None = Field(None, ge=1, le=1_000)
    """The least replicas, if their number follows the load; None: `replicas`."""
    max_replicas: int | None = Field(None, ge=1, le=1_000)
    """The most replicas, if their number follows the load; None: `replicas`."""
    target_load: float = Field(0.6, gt=0, lt=1)
    """The share of a core that each replica is to use; its event loop has no more than one."""
    scale_up_after_s: float = Field(5.0, ge=0)
    """Seconds that the load must ask for more replicas before they are started."""
    scale_down_after_s: float = Field(120.0, ge=0)
    """Seconds that the load must allow fewer replicas before any is stopped."""
    replica_cpus: float = Field(0.2, ge=0.0001, le=1_024)
    """The CPU cores that each replica reserves in Ray."""
    body_limit_bytes: int = Field(16 << 20, ge=1)
    """The largest request body in bytes; a larger one is answered with 413."""
    request_timeout_s: float = Field(30.0, gt=0)
    """Seconds that a request may wait for its run."""
    load_timeout_s: float = Field(300.0, gt=0)
    """Seconds that a deployed graph may take until it is loaded and has run once; a process of its
    own tries it."""
    load_memory_bytes: int | None = Field(None, ge=1 << 20)
    """Bytes of memory that a deployed graph may take for that; None: 2 GiB and four times its
    files."""
    keep_previous: int = Field(1, ge=0)
    """The number of former champions that stay loaded."""

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
    """acked: seconds after which an answer leaves without an acknowledgement, counted as
    `degraded`; until Kafka acknowledges again, those behind it do not wait."""
    memory_dir: Path = Path("/dev/shm")
    """A file system in memory, for durability `memory`."""
    sample: float = Field(1.0, ge=0, le=1)
    """The share of the predictions that is captured, chosen by their id; a model's
    `options.capture.sample` overrides it. The others are counted as dropped, `sampled`."""
    hash_key: SecretStr | None = None
    """The secret of the rule `hash` of `options.capture`: hashes of one key compare."""
    segment_bytes: int = Field(8 << 20, ge=1 << 16, le=1 << 30)
    """The size of a spool file in bytes."""
    quota_bytes: int = Field(1 << 30, ge=1 << 16)
    """Bytes of spool per replica: when this much waits for Kafka, predictions are dropped from
    capture, and counted."""
    pack_seconds: float = Field(0.2, gt=0)
    """Seconds that the shipper gathers predictions into one record."""
    pack_rows: int = Field(5_000, ge=1)
    """The most rows in one record."""

    @field_serializer("hash_key", when_used="json")
    def _for_replicas(self, key: SecretStr | None, info: FieldSerializationInfo) -> str | None:
        """Replicas get their settings as JSON, with `context=WITH_SECRETS`; all others see
        stars."""
        if key is None:
            return None
        return key.get_secret_value() if info.context == WITH_SECRETS else str(key)
