"""`nightvault version`."""

from __future__ import annotations

from backup import __version__
from tests.support.command_line import run, run_json


def test_the_version_alone() -> None:
    assert run("version").stdout == f"{__version__}\n"
    assert run_json("version") == {"version": __version__}
