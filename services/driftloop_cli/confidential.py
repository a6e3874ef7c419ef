"""Takes out of texts what must not leave a site: secrets, and values of rows. Pure.

A value of a row may appear in any message of a library ("could not convert string to float:
'12 Oak Street'"). So quoted text is left out unless it is a known name, and of an exception only
the frames and the class are kept.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from driftloop_settings.shown import PASSWORD

LEFT_OUT = "(left out)"
SECRET = "(secret)"
SHORTEST_SECRET = 4
"""Shorter ones would be found inside of words."""
ROW_TEXTS = frozenset({"detail", "message", "happened", "issues", "said", "rows_shown", "report"})
"""Fields whose sentences describe the values of columns."""
_QUOTED = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`[^`\n]*`""")
_USERINFO = re.compile(r"(\w+://)[^/\s@'\"]+@")
_FRAME = re.compile(r"^\s+File \"|^Traceback |^\s*During handling|^\s*The above exception")
_RAISED = re.compile(r"^\s*(?:[|+\-]\s*)*([A-Za-z_][\w.]*)(?::.*)?$")
_NAMED = re.compile(r"(?i)(password|passwd|token|secret|api[_-]?key|authorization)(\W{1,3})(\S+)")


class Confidential:
    """secrets: what must not be shown anywhere; names: what may be quoted."""

    def __init__(self, secrets: Collection[str], names: Collection[str]) -> None:
        self._secrets = sorted(
            (secret for secret in secrets if len(secret) >= SHORTEST_SECRET), key=len, reverse=True
        )
        self._names = frozenset(names)

    def without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, SECRET)
        text = _USERINFO.sub(rf"\1{SECRET}@", text)
        return _NAMED.sub(rf"\1\2{SECRET}", text)

    def text(self, text: str) -> str:
        """Without secrets, and without quoted values."""
        return _QUOTED.sub(self._unless_known, self.without_secrets(text))

    def trace(self, text: str) -> str:
        """A traceback: its frames, and the classes of the exceptions."""
        kept, code_follows = [], False
        for line in text.splitlines():
            if _FRAME.match(line):
                kept.append(line)
                code_follows = line.lstrip().startswith("File ")
            elif code_follows and line.startswith("    "):
                kept.append(line)
                code_follows = False
            elif found := _RAISED.match(line):
                kept.append(f"{found[1]}: {LEFT_OUT}")
        return self.without_secrets("\n".join(kept))

    def value(self, value: Any, name: str = "") -> Any:
        """The same of a JSON document."""
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.value(v, str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each, name) for each in value]
        if not isinstance(value, str):
            return value
        if name in ROW_TEXTS:
            return LEFT_OUT if value else ""
        if "Traceback (most recent call last)" in value or name == "exception":
            return self.trace(value)
        return self.text(value)

    def _unless_known(self, found: re.Match[str]) -> str:
        inner = found[0][1:-1]
        return found[0] if inner in self._names else f"{found[0][0]}…{found[0][-1]}"


def secrets_of(settings: BaseModel) -> Iterator[str]:
    """Every secret of the settings, and the passwords in addresses."""
    for value in _values(settings):
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, str) and (found := PASSWORD.search(value)):
            yield found[2]


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _values(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _values(each)
    else:
        yield value
