"""Where a version comes from: enough to make it again."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from driftloop_settings import Settings


def environment_hash() -> str:
    """Of all installed distributions and their versions."""
    names = sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()})
    return _digest("\n".join(names))


def code_version() -> str | None:
    """The commit that driftloop runs from, `+` after it where files were changed; None outside git."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=5, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def tags_of(
    settings: Settings, retrain: Mapping[str, Any], data: str, parent: int
) -> dict[str, str]:
    """A registered version's tags."""
    tags = {
        "retrain_id": str(retrain["id"]),
        "data_version": data,
        "parent_version": str(parent),
        "seed": str(settings.retrain.seed),
        "config_hash": _digest(settings.retrain.model_dump_json()),
        "environment_hash": environment_hash(),
        "reason": str(retrain.get("reason", "")),
        "source": "retrain",
    }
    code = code_version()
    return tags | ({"code_version": code} if code else {})


def params_of(settings: Settings, outcome: Mapping[str, Any]) -> dict[str, str]:
    """A run's parameters: the settings of retraining, and what won."""
    params = {k: json.dumps(v) for k, v in settings.retrain.model_dump(mode="json").items()}
    return params | {k: str(outcome[k]) for k in ("family", "span", "rounds", "rows", "fresh_rows")}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
