"""The sources of a job as real paths, each with its filters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from backup.source.filters import Filters


def roots_of(
    sources: Sequence[bytes], filters: Filters, overrides: Mapping[bytes, Filters]
) -> dict[bytes, Filters]:
    """The real paths of sources, each with its filters."""
    return {resolved(source): overrides.get(source, filters) for source in sources}


def resolved(source: bytes) -> bytes:
    """A source with its parent's symlinks resolved: entries then have their real paths."""
    path = os.path.normpath(source)
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)


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
