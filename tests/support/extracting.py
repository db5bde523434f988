"""The script that restores without nightvault, run as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
