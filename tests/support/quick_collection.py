"""Workers of a whole suite share the work of compiling the tests: each begins at another of them.

The first to import a file leaves it compiled, with its assertions made telling, for the others. If all began
with the same file, each would compile each: 9 s of CPU more a worker in a new clone.
"""

from __future__ import annotations

import contextlib
import importlib

import pytest


def share(config: pytest.Config) -> None:
    """Import all tests, beginning at this worker's place among them; what cannot be, collection tells."""
    told = getattr(config, "workerinput", None)
    if told is None or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    root = config.rootpath
    paths = sorted(path for folder in config.args for path in (root / folder).rglob("test_*.py"))
    begin = len(paths) * int(told["workerid"].removeprefix("gw")) // told["workercount"]
    for path in [*paths[begin:], *paths[:begin]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
