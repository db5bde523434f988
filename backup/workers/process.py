"""A process that runs a module of ours, isolated from the caller's environment, and how it ended.

A worker runs as root after `sudo nightvault restore`, so no file in the current directory may become code of
it: Python starts with `-I`, in `/`, with hardly any environment (and in UTF-8, as here); `backup` is loaded
from the directory that it was loaded from here, whatever else bears that name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import util
from typing import Final

from backup.model import KIB

_OURS: Final = """\
import sys
from importlib import import_module, util
package, count, *rest = sys.argv[1:]
homes, (module, *words) = rest[: int(count)], rest[int(count) :]
sys.path += [home for home in homes if home not in sys.path]
spec = util.spec_from_file_location("backup", package + "/__init__.py", submodule_search_locations=[package])
sys.modules["backup"] = util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["backup"])
"""
_START: Final = _OURS + "import_module('backup.workers.worker').serve(module, *map(int, words))\n"
_RUN: Final = _OURS + (
    "import runpy\nsys.argv[:] = [module, *words]\n"
    "runpy.run_module(module, run_name='__main__', alter_sys=True)\n"
)
PASSED_ON: tuple[str, ...] = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")  # text; the interpreter
LIBRARIES: Final = ("blake3", "msgspec", "pyfastcdc")
"""Packages that workers import: these alone are found where Python finds packages by its environment."""
_PATIENCE: Final = 2.0  # seconds to end once its socket is closed
_SAID: Final = 8 * KIB  # of its last output
_LONGEST: Final = 300  # characters of it in a message


class Process(subprocess.Popen[bytes]):
    """A process with hardly any environment, whose output is kept; `release` it when it has ended."""

    def __init__(self, words: Sequence[str], handles: Sequence[int]) -> None:
        self._said = os.memfd_create("what a worker says")
        try:
            super().__init__(
                words,
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                cwd="/",
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
                start_new_session=True,  # a Ctrl-C at the terminal must not reach it
            )
        except BaseException:
            self.release()
            raise

    def ending(self, error: BaseException) -> str:
        """A sentence on how the process ended and its last output, or `error` if it has not ended."""
        try:
            code = self.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return str(error)
        how = f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"
        return how + self._last_words()

    def release(self) -> None:
        """Close its output."""
        if self._said >= 0:
            os.close(self._said)
            self._said = -1

    def _last_words(self) -> str:
        if self._said < 0:
            return ""
        start = max(os.fstat(self._said).st_size - _SAID, 0)
        text = os.pread(self._said, _SAID, start).decode("utf-8", "backslashreplace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        shown = "".join(letter if letter.isprintable() else " " for letter in lines[-1]) if lines else ""
        return f": {shown[:_LONGEST]}" if shown else ", and said nothing"


def start(module: str, connection: int, memory: int) -> Process:
    """Start a worker that runs `serve` of a module of ours (see `worker.serve`) with these handles.

    `OSError` if no process can be started.
    """
    return Process(_isolated(_START, module, str(connection), str(memory)), [connection, memory])


def isolated_words(module: str, *words: str, libraries: Sequence[str] = ()) -> list[str]:
    """The command line that runs a module of ours as `python -m` does, but isolated.

    `libraries` are packages that it imports, for installs that Python finds by its environment alone.
    """
    return _isolated(_RUN, module, *words, libraries=libraries)


def without_python(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables that change a Python started in it."""
    return {name: value for name, value in environ.items() if not name.startswith("PYTHON")}


def _isolated(code: str, module: str, *words: str, libraries: Sequence[str] = LIBRARIES) -> list[str]:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    homes = _homes(libraries)
    return [sys.executable, "-I", "-X", "utf8", "-c", code, package, str(len(homes)), *homes, module, *words]


def _homes(libraries: Sequence[str]) -> list[str]:
    """The directories that libraries were loaded from here, as `-I` leaves out users' own and `PYTHONPATH`.

    They come last in a worker's search path: no module of Python's own is taken from there.
    """
    here = ""
    with suppress(OSError):
        here = os.path.realpath(os.getcwd())
    homes = dict.fromkeys(_home(name) for name in libraries)
    return [home for home in homes if os.path.isabs(home) and os.path.realpath(home) != here]


def _home(library: str) -> str:
    with suppress(ValueError):
        spec = util.find_spec(library)
        if spec is not None and spec.submodule_search_locations:
            return os.path.dirname(next(iter(spec.submodule_search_locations)))
        if spec is not None and spec.origin:
            return os.path.dirname(spec.origin)
    return ""
