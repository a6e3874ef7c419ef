"""Compiles the append of `driftloop_serving.capture` where there is a C compiler; without, Python
does it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "serving/driftloop_serving/capture"


class CompiledAppender(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        try:
            built = compiled(root / PACKAGE / "_appender.pyx", root / "build" / "appender")
        except Exception as error:
            self.app.display_warning(f"not compiled, so that capture costs more: {error}")
            return
        built.replace(root / PACKAGE / built.name)  # where an editable install finds it
        build_data.update(pure_python=False, infer_tag=True)
        build_data["artifacts"].append(f"/{PACKAGE}/{built.name}")


def compiled(source: Path, scratch: Path) -> Path:
    """The extension for this Python, in `scratch`."""
    import numpy as np
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    extension = Extension(
        "_appender",
        [str(source)],
        include_dirs=[np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=["-O2", "-g0"],
    )
    # The parts that are compiled into it are found from the source root.
    extensions = cythonize(
        [extension], include_path=[str(source.parents[2])], build_dir=str(scratch), quiet=True
    )
    command = build_ext(Distribution({"ext_modules": extensions}))
    command.build_lib, command.build_temp = str(scratch), str(scratch)
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath("_appender"))
