"""Parses texts, paths and flags of a command line without pydantic, which Typer imports for every
command that runs: that takes half of the time of a short one. All else is left to Typer.

This replaces a function that is private to Typer 0.29. An earlier version, which does not have it,
needs no pydantic; `tests/unit/cli/test_plain_parameters.py` compares what both parse.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from typer._click import Context
    from typer.core import _TyperParameter

_OTHER = object()


def parse_plain_parameters() -> None:
    """Replace it for all commands of this process."""
    try:
        from typer import core
        from typer._coercion import RuntimeParam, TypeDescriptor, build_runtime_param
        from typer._param_types import coerce_cli_path
    except ImportError:
        return

    @dataclass(frozen=True)
    class Plain(RuntimeParam):
        descriptor: TypeDescriptor

        def _coerce_value(self, value: Any, param: "_TyperParameter", ctx: "Context") -> Any:
            found = self._parsed(self.annotation, value, param, ctx)
            if found is not _OTHER:
                return found
            return build_runtime_param(self.descriptor)._coerce_value(value, param, ctx)

        def _parsed(self, kind: Any, value: Any, param: "_TyperParameter", ctx: "Context") -> Any:
            info = self.parameter_info
            if info.parser is not None or info.path_type is not None:
                return _OTHER
            if get_origin(kind) is list and isinstance(value, list | tuple):
                (each,) = get_args(kind)
                parsed = [self._parsed(each, item, param, ctx) for item in value]
                return _OTHER if _OTHER in parsed else parsed
            if kind is Path and isinstance(value, str | Path):
                checked = coerce_cli_path(value, info, path_type=str, param=param, ctx=ctx)
                return Path(str(checked))
            is_bounded = info.min is not None or info.max is not None
            is_plain = kind in (str, bool, int, float) and type(value) is kind and not is_bounded
            return value if is_plain else _OTHER

    def build(descriptor: TypeDescriptor) -> RuntimeParam:
        if descriptor.file_annotation is not None:
            return build_runtime_param(descriptor)
        return Plain(descriptor.parameter_info, descriptor.annotation, descriptor)

    core.build_runtime_param = build  # type: ignore[attr-defined]
