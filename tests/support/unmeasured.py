"""An environment for processes that cannot write where the suite's coverage is kept."""

from __future__ import annotations

import os


def unmeasured() -> dict[str, str]:
    """This process's environment without what has a program measured: at its end it would fail to write."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
