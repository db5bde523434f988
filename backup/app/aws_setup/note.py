"""A note beside the config that a vault is about to be made.

A vault of Glacier takes its tag only by a second call. Between the two, nothing in AWS says whose it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress

from msgspec import Struct

from backup.app.aws_setup.model import Wanted
from backup.files import sync_directory, write_durably


class Note(Struct, frozen=True):
    """The note on one vault: that of a set-up's name, an account, a region and the vault's name."""

    path: str
    text: str

    def is_there(self) -> bool:
        """Whether this set-up was about to make exactly this vault; no, if the note cannot be read."""
        with suppress(OSError, UnicodeDecodeError), open(self.path, encoding="utf-8") as file:
            return file.read() == self.text
        return False

    def write(self) -> None:
        """Put it on the disk, before the vault is made. `OSError`."""
        write_durably(self.path, self.text.encode())

    def remove(self) -> None:
        """Remove it: the vault has its tag, or is gone. `OSError`."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
            sync_directory(os.path.dirname(self.path))


def note_of(config: str, wanted: Wanted) -> Note | None:
    """The note on the vault of a set-up; None for a bucket, which gets its tag by the call that makes it."""
    if wanted.vault is None:
        return None
    values = {
        "setup": wanted.name,
        "account": wanted.setup.account,
        "region": wanted.setup.region,
        "vault": wanted.vault,
    }
    number = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]
    said = {"making": values, "removed": "by setup aws, once the vault has its tag"}
    return Note(f"{os.path.realpath(config)}.making-{number}", json.dumps(said, indent=2) + "\n")
