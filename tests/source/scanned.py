"""What a walk saw, as paths."""

from __future__ import annotations

import os
from pathlib import Path

from backup.source.scanned import ScannedDirectory


def paths(directories: list[ScannedDirectory], top: Path) -> list[str]:
    """What was seen below `top`, in order."""
    found = []
    for directory in directories:
        for entry in directory.entries:
            path = os.fsdecode(directory.path.rstrip(b"/") + b"/" + entry.name)
            if path.startswith(f"{top}/"):
                found.append(os.path.relpath(path, top))
    return found
