"""The number of CPU cores that a run may use: everything that starts workers asks here."""

from __future__ import annotations

import os


def usable_cores(most: int | None = None) -> int:
    """The cores that this process may run on (`taskset`, a container's cpuset), at most `most`."""
    affinity = getattr(os, "sched_getaffinity", None)
    here = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(here, most or here))
