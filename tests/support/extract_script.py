"""The script that restores without nightvault, run as a process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tests.support.emulated import REPOSITORY

SCRIPT = Path(REPOSITORY) / "deploy" / "nightvault-extract.py"


def extract(*words: object, without: Path | None = None, code: int = 0) -> str:
    """Run it as a process; what it printed. `without` is a folder that hides blake3."""
    environ = dict(os.environ) | ({"PYTHONPATH": str(without)} if without else {})
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        capture_output=True,
        text=True,
        env=environ,
        cwd="/",
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@contextmanager
def imported(name: str) -> Iterator[ModuleType]:
    """It as a module of that name."""
    spec = importlib.util.spec_from_file_location(name, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
