"""A support bundle has what happened, and neither secrets nor values of rows."""

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from console_records import NOW, drift, fill

from driftloop_cli import support_bundle
from driftloop_cli.confidential import Confidential, secrets_of
from driftloop_contracts.errors import Conflict
from driftloop_contracts.judgement import CheckKind, Finding, Severity
from driftloop_settings import Settings
from driftloop_store import open_store

PASSWORD, HOOK, STORE_PASSWORD = "hunter2-kafka", "https://hooks.example/T0/S3CR3T", "pg-passw0rd"
ROW = "12 Oak Street"
NUMBER = "31337.25"


def write_bundle(of: Settings, path: Path, since: datetime, now: datetime) -> list[str]:
    """Without asking a broker, which is not there."""
    return support_bundle.write_bundle(of, path, since, now, lambda _: [{"name": "x", "ok": True}])


def settings(state_dir: Path, **sections: Any) -> Settings:
    return Settings(
        state_dir=state_dir,
        kafka={
            "bootstrap_servers": "kafka.example:9093",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "loop",
            "sasl_password": PASSWORD,
        },  # type: ignore[arg-type]
        alerts={"routes": [{"name": "night", "to": HOOK}]},  # type: ignore[arg-type]
        **sections,
    )


def logged(state_dir: Path, *entries: dict[str, Any]) -> None:
    (state_dir / "logs").mkdir(parents=True)
    stamped = [{"level": "error", "timestamp": NOW.isoformat(), **entry} for entry in entries]
    lines = [json.dumps(entry) for entry in stamped]
    lines += [f"could not read '{ROW}' with {PASSWORD}", "Authorization: abcdefgh"]
    (state_dir / "logs" / "retrain.log").write_text("\n".join(lines) + "\n")


def stack(state_dir: Path) -> Settings:
    """With a secret and values of a row in every place where they may get."""
    found = settings(state_dir)
    logged(
        state_dir,
        {"event": "retrain.failed", "model": "healthy", "reason": f"no place for '{ROW}'",
         "exception": "Traceback (most recent call last):\n"
         '  File "recipe.py", line 3, in fit\n    float(value)\n'
         f"ValueError: could not convert {ROW} or {NUMBER}"},
        {"event": "kafka.refused", "error": f"SASL failed for loop:{PASSWORD}@kafka.example"},
        {"event": "alerts.refused", "reason": f"POST {HOOK} answered 404"},
    )  # fmt: skip
    store = open_store(found.store_url)
    list(fill(store))
    constant = Finding(
        finding_id="constant", model="healthy", version=1, kind=CheckKind.QUALITY, check="constant",
        severity=Severity.CRITICAL, columns=("income",), effect=1.0, significance=0.0,
        window_id="w", at=NOW, detail=f"column income is {NUMBER} in every row",
    )  # fmt: skip
    store.add_finding(constant)
    store.add_finding(drift("healthy", 1, "income"))
    store.close()
    return found


def members(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_bundle_has_neither_secrets_nor_values_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    names = write_bundle(stack(tmp_path / "state"), path, NOW - timedelta(hours=1), NOW)
    found = members(path)
    assert sorted(found) == sorted(names)
    everything = "\n".join(found.values())
    for text in (PASSWORD, HOOK, "S3CR3T", ROW, NUMBER, "abcdefgh"):
        assert text not in everything, text
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_bundle_has_what_support_needs(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    write_bundle(stack(tmp_path / "state"), path, NOW - timedelta(hours=1), NOW)
    found = {name: text for name, text in members(path).items() if name.endswith(".json")}
    documents = {name: json.loads(text) for name, text in found.items()}
    assert "missing.json" not in documents
    assert documents["versions.json"]["packages"]["pydantic"]
    assert documents["settings.json"]["monitoring"]["window_rows"] > 0
    models = [model["model"]["name"] for model in documents["status.json"]["models"]]
    assert set(models) == {"healthy", "watching", "alert", "retraining", "canary", "unwatched"}
    effects = {finding["finding_id"]: finding["effect"] for finding in documents["findings.json"]}
    assert effects["constant"] == 1.0
    assert documents["decisions.json"][0]["reason"]
    assert documents["incidents.json"][0]["cause"] == "performance"
    events = [json.loads(line) for line in members(path)["logs/retrain.jsonl"].splitlines()]
    assert events[0]["model"] == "healthy"
    assert 'File "recipe.py", line 3, in fit' in events[0]["exception"]
    assert "ValueError: (left out)" in events[0]["exception"]


def test_older_logs_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    write_bundle(stack(tmp_path / "state"), path, NOW + timedelta(hours=1), NOW)
    assert members(path)["logs/retrain.jsonl"] == ""


def test_a_stack_that_never_started_has_a_bundle_too(tmp_path: Path) -> None:
    path, now = tmp_path / "bundle.zip", datetime.now(UTC)
    write_bundle(settings(tmp_path / "state"), path, now, now)
    missing = json.loads(members(path)["missing.json"])
    assert set(missing) == {"store", "logs"}
    assert not (tmp_path / "state" / "store.db").exists()
    with pytest.raises(Conflict, match="--output"):
        write_bundle(settings(tmp_path / "state"), path, now, now)


def test_passwords_in_addresses_are_secrets(tmp_path: Path) -> None:
    url = f"postgresql://me:{STORE_PASSWORD}@db.example/loop"
    found = set(secrets_of(settings(tmp_path, store={"url": url})))
    assert {PASSWORD, HOOK, STORE_PASSWORD} <= found
    assert STORE_PASSWORD not in Confidential(found, ()).text(f"cannot reach {url}")


def test_known_names_may_stand_in_quotes() -> None:
    of = Confidential((), {"income", "loans"})
    assert of.text("column 'income' of \"loans\" is 'Ulm'") == "column 'income' of \"loans\" is '…'"
    assert of.value({"reason": ["'x'"], "rows": 3, "detail": "x"}) == {
        "reason": ["'…'"], "rows": 3, "detail": "(left out)",
    }  # fmt: skip
