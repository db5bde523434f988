"""Programs that are run by a user without rights: how, and whether it can be done here."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

import pytest

from tests.support.servers import SCRIPT

NOBODY = 65534
AS_NOBODY = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
"""What stands before a command that this user is to run."""


@pytest.fixture
def nobody() -> int:
    """The id of a user without rights who can run the program; the test is skipped where there is none."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root may become another user, by setpriv")
    if not _can_run():
        pytest.skip("the environment lies in a folder that other users may not enter")
    return NOBODY


@functools.cache
def _can_run() -> bool:
    words = [*AS_NOBODY, SCRIPT, "--version"]
    return subprocess.run(words, capture_output=True, check=False, cwd="/").returncode == 0
