"""UTF-8 everywhere, whatever the locale says: paths, files and output of every process of ours.

Java takes the names of files in the locale's encoding: under `LC_ALL=C` it cannot open `zustand ü`.
"""

import codecs
import locale
import os
import sys
from collections.abc import MutableMapping

UTF8_LOCALE = "C.UTF-8"


def adopt_utf8(environ: MutableMapping[str, str]) -> bool:
    """Have the processes that we start use UTF-8. Whether this process has to be started anew, in
    `environ`, to do so too: it has read its arguments already."""
    if codecs.lookup(locale.getencoding()).name == "utf-8":
        return False
    environ["LC_ALL"] = UTF8_LOCALE
    environ["PYTHONUTF8"] = "1"
    return not sys.flags.utf8_mode


def start_anew(environ: MutableMapping[str, str]) -> None:
    """Become the same command in another environment."""
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(environ))
