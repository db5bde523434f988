"""The control files of a tree: what was refused as cold, and a request for it, which a person confirms.

No list shows their folder, so that whatever walks over the tree passes it by; whoever knows the name gets in.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, Protocol

from backup.served.look import CONTROL, Look
from backup.wording import shown_path

REQUEST: Final = CONTROL + b"/request"
LARGEST_REQUEST: Final = 16 * 1024
_README: Final = b"""\
Files whose bytes lie in a cold vault cannot be read before the vault has made them readable, which takes
hours and costs money. Nothing that is read or walked over here asks for that: such a file is refused at once
with "No data available". To ask for one, or for a folder, as a path in this tree:

    echo snapshots/latest/JOB/srv/file > .nightvault/request
    cat .nightvault/request              # what would be needed, its price, the hours, and a word
    echo confirm WORD > .nightvault/request

It is then asked for, unless it costs more than the limit (--max-cost, or [restore] max_restore_cost), and can
be read here once it has come. .nightvault/refused names the files that were refused last.
"""


class Request(Protocol):
    """A request for what is cold: told in words, and answered in words."""

    def say(self, words: str) -> None:
        """Take a path, or the confirmation of what was quoted."""
        ...

    def answer(self) -> str:
        """The need and its price, or how far a request is."""
        ...


class ControlFiles:
    """The control files of a tree."""

    def __init__(self, look: Look, request: Request) -> None:
        self._look = look
        self._request = request
        self._files: dict[bytes, Callable[[], str]] = {
            CONTROL + b"/README": _README.decode,
            CONTROL + b"/refused": self._refused,
            REQUEST: request.answer,
        }

    @property
    def names(self) -> list[bytes]:
        """The names in the folder."""
        return [os.path.basename(path) for path in self._files]

    def is_file(self, path: bytes) -> bool:
        """Whether a control file is at that path."""
        return path in self._files

    def read(self, path: bytes) -> bytes:
        """The present text of a control file."""
        return self._files[path]().encode(errors="surrogateescape")

    def write(self, path: bytes, data: bytes) -> None:
        """Take a request. `EROFS` for all else, `E2BIG`."""
        if path != REQUEST:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if len(data) > LARGEST_REQUEST:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        self._request.say(data.decode(errors="surrogateescape").strip("\r\n"))

    def _refused(self) -> str:
        return "".join(f"{shown_path(path[1:])}\n" for path in self._look.refused)
