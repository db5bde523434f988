"""The sources of a job as real paths, each with its filters."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from backup.source.filters import Filters
from backup.wording import printable


def roots_of(
    sources: Sequence[bytes], filters: Filters, overrides: Mapping[bytes, Filters]
) -> dict[bytes, Filters]:
    """The real paths of sources, each with its filters."""
    return {resolved(source): overrides.get(source, filters) for source in sources}


def resolved(source: bytes) -> bytes:
    """A source with its parent's symlinks resolved: entries then have their real paths.

    `..` leads where the system goes: above the target of a symlink, not above the symlink.
    """
    parent, name = os.path.split(source.rstrip(b"/") or b"/")
    if name in {b"", b".", b".."}:
        return os.path.realpath(source)
    return os.path.join(os.path.realpath(parent), name)


def is_at_or_below(path: bytes, top: bytes) -> bool:
    """Whether an absolute path is that directory, or lies in it."""
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


def symlinks_among(sources: Sequence[bytes]) -> Iterator[str]:
    """A sentence for each source that is itself a symlink: what it leads to is not saved."""
    for source in sources:
        try:
            target = os.readlink(resolved(source))
        except OSError:  # no symlink, or nothing at all
            continue
        yield (
            f"source {printable(os.fsdecode(source))} is a symlink to {printable(os.fsdecode(target))}: only "
            "the symlink is saved, and nothing of what it leads to; name that as a source"
        )


def any_is_there(sources: Sequence[bytes]) -> bool:
    """Whether one of the sources exists, or may exist though we may not look."""
    for source in sources:
        try:
            os.lstat(source)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
        return True
    return False
