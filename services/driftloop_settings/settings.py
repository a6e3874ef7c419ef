"""All settings in one value."""

from hashlib import blake2b
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from driftloop_contracts.loopback import is_loopback
from driftloop_contracts.model import ModelSpec
from driftloop_settings.alert_sections import AlertsSettings
from driftloop_settings.language_sections import JudgeSettings, LlmSettings, TuningSettings
from driftloop_settings.loop_sections import (
    MonitoringSettings,
    RetrainSettings,
    RolloutSettings,
    TriggerSettings,
)
from driftloop_settings.policy import own_sections, policy_of
from driftloop_settings.section import check_usable
from driftloop_settings.serving_sections import CaptureSettings, ServingSettings
from driftloop_settings.state_path import DEFAULT_STATE_DIR
from driftloop_settings.storage_sections import (
    ControlSettings,
    KafkaSettings,
    LakeSettings,
    RegistrySettings,
    StoreSettings,
)


class Settings(BaseModel):
    """All of it. Build it with `load_settings`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    state_dir: Path = DEFAULT_STATE_DIR
    """The folder in which the stack keeps everything."""
    serving: ServingSettings = ServingSettings()
    capture: CaptureSettings = CaptureSettings()
    kafka: KafkaSettings = KafkaSettings()
    lake: LakeSettings = LakeSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    trigger: TriggerSettings = TriggerSettings()
    retrain: RetrainSettings = RetrainSettings()
    rollout: RolloutSettings = RolloutSettings()
    llm: LlmSettings = LlmSettings()
    tuning: TuningSettings = TuningSettings()
    judge: JudgeSettings = JudgeSettings()
    alerts: AlertsSettings = AlertsSettings()
    control: ControlSettings = ControlSettings()
    registry: RegistrySettings = RegistrySettings()
    store: StoreSettings = StoreSettings()

    @model_validator(mode="after")
    def _is_reached_from_this_machine_alone(self) -> "Settings":
        for section, host in (("serving", self.serving.host), ("control", self.control.host)):
            if not (self.control.insecure or is_loopback(host)):
                raise ValueError(
                    f"{section}.host={host} would let other machines in, and callers are not "
                    "authenticated: keep 127.0.0.1, or use `--insecure` (control.insecure=true)"
                )
        return self

    @field_validator("state_dir")
    @classmethod
    def _usable(cls, folder: Path) -> Path:
        check_usable("state_dir", folder)
        return folder

    def for_model(self, spec: ModelSpec) -> "Settings":
        """Return these settings with the values of the spec's `policy`. Raises Rejected, naming the
        key that does not fit."""
        return self.model_copy(update=own_sections(self, policy_of(spec)))

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
        """The folder of predictions that wait for Kafka."""
        on_disk, in_memory = self.spool_dirs
        return in_memory if self.capture.durability == "memory" else on_disk

    @property
    def spool_dirs(self) -> tuple[Path, Path]:
        """The spool folders on disk and in memory; after a change of `capture.durability` the
        former one may still contain records."""
        place = blake2b(str(self.state_dir).encode(), digest_size=8).hexdigest()
        return self.state_dir / "spool", self.capture.memory_dir / f"driftloop-{place}"

    @property
    def reports_dir(self) -> Path:
        return self.state_dir / "reports"
