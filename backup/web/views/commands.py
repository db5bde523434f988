"""Commands to copy into a shell, whatever the names in them are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from backup.model import SnapshotId, Tier
from backup.wording import escape

TARGET = "restored"


def restore_command(
    snapshot: SnapshotId, paths: Sequence[bytes], *, tier: Tier | None = None, dry_run: bool = False
) -> str:
    """`nightvault restore` of paths of a snapshot into a new directory below the current one.

    One path lands in it; of several each keeps its way from the root.
    """
    first = paths[0] if len(paths) == 1 else b"/"
    words = [b"nightvault", b"restore", snapshot.encode() + b":" + first]
    words += [] if len(paths) == 1 else paths
    words += [b"--target", TARGET.encode()]
    words += [] if tier is None else [b"--tier", tier.encode()]
    words += [b"--dry-run"] if dry_run else []
    return " ".join(map(quoted, words))


def quoted(word: bytes) -> str:
    """A word for bash, zsh or ksh: what cannot be shown as it is stands there as octal numbers in $'…'."""
    try:
        text = word.decode()
    except UnicodeDecodeError:
        return _by_number(word)
    is_shown = text.isprintable() and escape(text) == text
    return shlex.quote(text) if is_shown else _by_number(word)


def _by_number(word: bytes) -> str:
    shown = (chr(one) if 32 <= one < 127 and one not in b"'\\" else f"\\{one:03o}" for one in word)
    return f"$'{''.join(shown)}'"
