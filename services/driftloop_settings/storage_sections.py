"""Settings shared by the roles: Kafka, lake, store, registry, control API."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from driftloop_settings.addresses import host_name, host_ports, lake_place, store_url, web_origin
from driftloop_settings.section import Section


class KafkaSettings(Section):
    bootstrap_servers: Annotated[str | None, AfterValidator(host_ports)] = None
    """Your own cluster, as HOST:PORT,HOST:PORT; None: `driftloop up` runs a single-node Apache
    Kafka."""
    port: int = Field(9092, ge=0, le=65535)
    """The TCP port of the Kafka that `driftloop up` starts; 0: any free one."""
    heap_mb: int = Field(384, ge=128, le=1 << 20)
    """The Java heap in MiB of the Kafka that `driftloop up` starts."""
    partitions: int = Field(2, ge=1, le=10_000)
    """The partitions of each topic that driftloop creates."""
    retention_hours: int = Field(72, ge=1)
    """Hours that Kafka keeps a record; predictions are lost if the archiver is down for longer."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How connections to the brokers are encrypted and authenticated."""
    ssl_cafile: str | None = None
    """The file with the certificate authorities that sign the brokers' certificates; None: the
    system's."""
    ssl_certfile: str | None = None
    """The file with the client's certificate; None: no client certificate."""
    ssl_keyfile: str | None = None
    """The file with the key of `ssl_certfile`."""
    sasl_mechanism: str | None = None
    """The SASL mechanism, such as PLAIN or SCRAM-SHA-512."""
    sasl_username: str | None = None
    """The SASL user's name."""
    sasl_password: SecretStr | None = None
    """The SASL user's password; it is never shown."""

    @model_validator(mode="after")
    def _complete(self) -> "KafkaSettings":
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("kafka.ssl_keyfile needs kafka.ssl_certfile, the certificate")
        by_password = (self.sasl_mechanism or "PLAIN").startswith(("PLAIN", "SCRAM"))
        if self.security_protocol.startswith("SASL") and by_password:
            for key in ("sasl_username", "sasl_password"):
                if getattr(self, key) is None:
                    raise ValueError(
                        f"kafka.security_protocol {self.security_protocol} needs kafka.{key}"
                    )
        return self


class LakeSettings(Section):
    uri: Annotated[str | None, AfterValidator(lake_place)] = None
    """The location of the Delta tables, a path or `s3://bucket/prefix` (with credentials, region
    and endpoint from the environment, `AWS_…`); None: `lake` under the state directory."""
    flush_rows: int = Field(20_000, ge=1, le=10_000_000)
    """The archiver writes once this many rows are waiting, and 5,000 for each model among them."""
    flush_seconds: float = Field(2.0, gt=0)
    """The archiver writes waiting rows after this many seconds, or after as many as the last write
    took."""
    compact_files: int = Field(50, ge=2)
    """The number of small files in a table at which they are rewritten as larger ones."""
    vacuum_hours: int = Field(8, ge=1)
    """Hours that a version of a table stays readable if no model version and no retrain pins it."""
    retention_days: int | None = Field(None, ge=1)
    """Predictions, labels and dead letters older than this many days are dropped, except from
    pinned versions; None: they are kept forever."""


class ControlSettings(Section):
    host: Annotated[str, AfterValidator(host_name)] = "127.0.0.1"
    """The address that the control API listens on."""
    port: int = Field(8001, ge=0, le=65535)
    """The TCP port of the control API; 0: any free one."""
    insecure: bool = False
    """Whether `serving.host` and `control.host` may be reachable from other machines. A stack does
    not authenticate callers: anyone may deploy, which runs code. Set by `driftloop up
    --insecure`."""
    hosts: tuple[Annotated[str, AfterValidator(host_name)], ...] = ()
    """Host names by which clients may call the stack, in addition to localhost: names of this
    machine, or of a proxy in front of it. Requests to other names are refused (DNS rebinding)."""
    cors_origins: tuple[Annotated[str, AfterValidator(web_origin)], ...] = ()
    """Origins, such as `https://app.example`, whose pages may call the inference and control APIs
    from a browser (CORS); none by default."""
    read_only: bool = False
    """Whether the control port refuses every call that changes something, and the console shows no
    buttons. Labels and ratings (`POST /feedback`) are still accepted."""
    query_s: float = Field(30.0, gt=0, le=3_600)
    """Seconds after which a query of the console's page Data is stopped."""
    query_rows: int = Field(10_000, ge=1, le=1_000_000)
    """The most rows that a query of the page Data returns, on the page and in exports."""
    query_memory_mb: int = Field(1_024, ge=256)
    """The most memory that a query of the page Data may use, in MiB."""


class RegistrySettings(Section):
    uri: str | None = None
    """MLflow's tracking and registry URI; None: SQLite under the state directory."""
    artifacts: Annotated[str | None, AfterValidator(lake_place)] = None
    """Where the files that machines share are stored by content: `s3://bucket/prefix` (with
    credentials, region and endpoint from the environment, `AWS_…`), or a folder that all of them
    mount; None: under the state directory, for a stack on one machine."""
    cache_mb: int = Field(20_480, ge=1)
    """The size in MiB of the copies of these files that a machine keeps; the least recently used
    are removed, but none that is in use."""


class StoreSettings(Section):
    url: Annotated[str | None, AfterValidator(store_url)] = None
    """The store's SQLAlchemy URL; None: SQLite under the state directory."""
    retention_days: int | None = Field(90, ge=1)
    """Days after which windows, findings, decisions and events of the loop are deleted, except what
    led to an open alert, incident, retrain or rollout; None: they are kept forever."""
