"""zstd's native library, unpacked before the broker starts.

By itself the broker unpacks it beside its data at the first compressed record. One that was started
on a full disk cannot, never tries again, and refuses all compressed records after there is room,
too.
"""

import os
import platform
import zipfile
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "arm64": "aarch64"}


def zstd_options(class_path: str, cache: Path) -> list[str]:
    """The Java options that name the library in `cache`, written there if it is missing; none
    where the jars have none for this machine, or there is no room: the broker is then on its
    own."""
    jars = map(Path, class_path.split(os.pathsep))
    jar = next((path for path in jars if path.name.startswith("zstd-jni-")), None)
    if jar is None:
        return []
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    member = f"linux/{architecture}/lib{jar.stem}.so"
    if platform.system() == "Darwin":
        architecture = "x86_64" if architecture == "amd64" else architecture
        member = f"darwin/{architecture}/lib{jar.stem}.dylib"
    library = cache / f"{architecture}-{Path(member).name}"
    try:
        if not library.exists():
            _unpack(jar, member, library)
    except (OSError, KeyError, zipfile.BadZipFile):
        return []
    return [f"-DZstdNativePath={library}"]


def _unpack(jar: Path, member: str, library: Path) -> None:
    """Whole or not at all."""
    begun = library.with_name(f".{library.name}-{os.getpid()}")
    try:
        with zipfile.ZipFile(jar) as archive:
            begun.write_bytes(archive.read(member))
        begun.replace(library)
    finally:
        begun.unlink(missing_ok=True)
