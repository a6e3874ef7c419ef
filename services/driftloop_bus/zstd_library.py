"""Unpacks the native library of zstd before the broker starts.

By default the broker unpacks it at the first compressed record. A broker started on a full disk
fails to do so, never retries, and refuses all compressed records even after space is available.
"""

import os
import platform
import zipfile
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "arm64": "aarch64"}


def zstd_options(class_path: str, cache: Path) -> list[str]:
    """Return the Java options that name the library in `cache`, after unpacking it if needed; none
    if the jars have no library for this machine or there is no space, so that the broker uses its
    default."""
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
    """Unpack atomically."""
    begun = library.with_name(f".{library.name}-{os.getpid()}")
    try:
        with zipfile.ZipFile(jar) as archive:
            begun.write_bytes(archive.read(member))
        begun.replace(library)
    finally:
        begun.unlink(missing_ok=True)
