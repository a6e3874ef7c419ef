"""Uses UTF-8 for paths, files and output of all our processes, regardless of the locale.

Java encodes file names by the locale: under `LC_ALL=C` it cannot open `zustand ü`.
"""

import codecs
import locale
import os
import sys
from collections.abc import MutableMapping

UTF8_LOCALE = "C.UTF-8"


def adopt_utf8(environ: MutableMapping[str, str]) -> bool:
    """Make child processes use UTF-8. Returns whether this process must be restarted with
    `environ`, because it has already decoded its arguments."""
    if codecs.lookup(locale.getencoding()).name == "utf-8":
        return False
    environ["LC_ALL"] = UTF8_LOCALE
    environ["PYTHONUTF8"] = "1"
    return not sys.flags.utf8_mode


def start_anew(environ: MutableMapping[str, str]) -> None:
    """Replace this process by the same command in another environment."""
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(environ))
