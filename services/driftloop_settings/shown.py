"""Settings as people may see them: without the passwords in addresses; `SecretStr` hides itself."""

import re
from typing import Any

from pydantic import BaseModel

HIDDEN = "**********"
PASSWORD = re.compile(r"(://[^/\s:@]*:)([^@\s]+)(?=@)")
"""In an address such as postgresql://NAME:PASSWORD@HOST/DATABASE."""


def without_passwords(text: str) -> str:
    return PASSWORD.sub(rf"\1{HIDDEN}", text)


def shown_settings(settings: BaseModel) -> dict[str, Any]:
    """As JSON."""
    found: dict[str, Any] = _shown(settings.model_dump(mode="json"))
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return without_passwords(value) if isinstance(value, str) else value
