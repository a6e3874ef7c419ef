"""The registry on MLflow: one run per version, with files under the state directory.

Safe to use from several processes. Opening is cheap: MLflow is imported on first use.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from driftloop_artifacts import IN_PLACE, Artifacts, open_artifacts
from driftloop_artifacts.manifest import is_address
from driftloop_contracts.errors import NotFound
from driftloop_contracts.signature import Signature
from driftloop_registry import mlflow_schema, signature_tags
from driftloop_registry.port import Alias, VersionRecord
from driftloop_store.database_lock import database_lock
from driftloop_store.schema import Schema

if TYPE_CHECKING:
    from driftloop_settings import Settings

T = TypeVar("T")
ADDRESS_TAG = "moved_to"
"""The tag with the address of a version's files, in place of its source."""
REPORT_TAG = "report_address"
"""The tag with the address of the artifacts that are registered with a version."""
FOLDER = "version"
"""The folder of the version's files in a run's artifacts."""
MAX_PARAM_CHARS = 500
TABLES = 0x6472_6966_746D_6C66
"""The key of PostgreSQL's advisory lock under which MLflow's tables are made."""


def open_registry(settings: "Settings") -> "MlflowRegistry":
    """Return the registry of the settings, without any I/O."""
    folder = settings.state_dir / "registry"
    return MlflowRegistry(settings.registry_uri, folder, open_artifacts(settings))


class MlflowRegistry:
    """A `Registry`. `folder`: where artifacts are stored, or, if an MLflow server stores them,
    where local copies are kept. `artifacts`: stores them by content if machines share them."""

    def __init__(self, uri: str, folder: Path, artifacts: Artifacts = IN_PLACE) -> None:
        self._artifacts = artifacts
        self._uri = uri
        self._folder = folder.absolute()

    @cached_property
    def _client(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")  # the process has its own
        from mlflow import MlflowClient

        # The first client creates the tables.
        with self._alone():
            client = MlflowClient(self._uri, self._uri)
            client.search_registered_models(max_results=1)
        return client

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two that make or change the tables at once, here or elsewhere, would interfere."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "open.lock").open("w") as lock, ExitStack() as held:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held.enter_context(database_lock(self._uri, TABLES))
            yield

    def bring_up_to_date(self) -> Schema | None:
        """Make or upgrade MLflow's tables. Returns what they were, or None if a server has them.
        Raises Unavailable if a newer MLflow has written them."""
        if not mlflow_schema.is_database(self._uri):
            return None
        with self._alone():
            return mlflow_schema.bring_up_to_date(self._uri)

    def register(
        self,
        model: str,
        folder: Path,
        signature: Signature,
        *,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        artifacts: Path | None = None,
    ) -> VersionRecord:
        retrain_id = tags.get("retrain_id")
        if retrain_id is not None:
            made = [v for v in self.versions(model) if v.tags.get("retrain_id") == retrain_id]
            if made:
                return made[0]
        client = self._client
        run = self._run(model, tags)
        run_id = run.info.run_id
        self._log(run_id, metrics, params)
        own = dict(tags) | signature_tags.to_tags(signature)
        if self._artifacts.place is not None:
            source = self._artifacts.put(folder)
            if artifacts is not None:
                own[REPORT_TAG] = self._artifacts.put(artifacts)
        else:
            client.log_artifacts(run_id, str(folder), FOLDER)
            if artifacts is not None:
                client.log_artifacts(run_id, str(artifacts), "artifacts")
            source = f"{run.info.artifact_uri}/{FOLDER}"
        client.set_terminated(run_id)
        _unless_there(lambda: client.create_registered_model(model))
        version = client.create_model_version(
            model,
            source,
            run_id,
            tags=own,
            await_creation_for=0,
        )
        return self._record(version, dict(metrics))

    def _log(self, run_id: str, metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        now_ms = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            [Metric(name, value, now_ms, 0) for name, value in metrics.items()],
            [Param(name, str(value)[:MAX_PARAM_CHARS]) for name, value in params.items()],
        )

    def _run(self, model: str, tags: Mapping[str, str]) -> Any:
        """Return a new run, or the one left by a killed registration for the same retrain."""
        client = self._client
        experiment = client.get_experiment_by_name(model)
        if experiment is None:
            location = (self._folder / "runs" / model).as_uri() if self._local else None
            _unless_there(lambda: client.create_experiment(model, artifact_location=location))
            experiment = client.get_experiment_by_name(model)
        experiment_id = experiment.experiment_id
        if "retrain_id" in tags:
            wanted = f"tags.retrain_id = '{tags['retrain_id']}'"
            for run in client.search_runs([experiment_id], wanted, max_results=1):
                return run
        return client.create_run(experiment_id, tags=dict(tags))

    @property
    def _local(self) -> bool:
        return not self._uri.startswith(("http:", "https:"))

    def version(self, model: str, version: int) -> VersionRecord:
        found = _or_none(lambda: self._client.get_model_version(model, str(version)))
        if found is None:
            raise NotFound(f"the registry has no version {version} of {model!r}")
        return self._record(found)

    def models(self) -> list[str]:
        found, token = [], None
        while True:
            page = self._client.search_registered_models(max_results=100, page_token=token)
            found += [str(item.name) for item in page]
            token = page.token
            if not token:
                return sorted(found)

    def versions(self, model: str) -> list[VersionRecord]:
        found, token = [], None
        while True:
            page = self._client.search_model_versions(f"name = '{model}'", page_token=token)
            found += [self._record(item) for item in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda record: record.version)

    def move(self, record: VersionRecord, path: str, report: str | None) -> None:
        # A version's source cannot be changed in MLflow.
        version = str(self.version(record.model, record.version).version)
        self._client.set_model_version_tag(record.model, version, ADDRESS_TAG, path)
        if report is not None:
            self._client.set_model_version_tag(record.model, version, REPORT_TAG, report)

    def set_alias(self, model: str, alias: Alias, version: int | None) -> None:
        """Set an alias. Raises NotFound if there is no such version."""
        if version is not None:
            self.version(model, version)
            self._client.set_registered_model_alias(model, alias, str(version))
        elif alias in self.aliases(model):
            self._client.delete_registered_model_alias(model, alias)

    def aliases(self, model: str) -> dict[str, int]:
        # `search_model_versions` returns versions without their aliases (MLflow 3.17).
        found = _or_none(lambda: self._client.get_registered_model(model))
        return {} if found is None else {a: int(v) for a, v in found.aliases.items()}

    def _record(self, version: Any, metrics: Mapping[str, float] | None = None) -> VersionRecord:
        if metrics is None:
            metrics = self._client.get_run(version.run_id).data.metrics if version.run_id else {}
        signature, tags = signature_tags.from_tags(version.tags)
        moved = tags.pop(ADDRESS_TAG, None)
        path, report = moved or str(self._path(version)), tags.pop(REPORT_TAG, None)
        if report is None and not is_address(path):
            report = str(Path(path).parent / "artifacts")
        number = int(version.version)
        return VersionRecord(version.name, number, path, signature, metrics, tags, report)

    def _path(self, version: Any) -> str | Path:
        if is_address(version.source):
            return str(version.source)
        from mlflow.utils.file_utils import local_file_uri_to_path

        if version.source.startswith(("file:", "/")):
            return Path(str(local_file_uri_to_path(version.source)))
        from mlflow.artifacts import download_artifacts

        copy: Path = self._folder / "copies" / version.name / str(version.version)
        if not copy.is_dir():
            part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
            part.mkdir(parents=True, exist_ok=True)
            files = download_artifacts(
                artifact_uri=version.source, dst_path=str(part), tracking_uri=self._uri
            )
            Path(files).replace(copy)
        return Path(copy)


def _unless_there(create: Callable[[], object]) -> None:
    """Ignore the error that another process has created it meanwhile."""
    from mlflow.exceptions import MlflowException

    try:
        create()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _or_none(read: Callable[[], T]) -> T | None:
    from mlflow.exceptions import MlflowException

    try:
        return read()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
