"""The import contracts name every package there is, so that a new one is held to them."""

from __future__ import annotations

import pkgutil
import tomllib
from pathlib import Path

import backup

REPOSITORY = Path(__file__).parent.parent


def test_the_emulator_is_held_apart_from_everything_else() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    alone = next(one for one in contracts if one["id"] == "emulator-alone")
    others = {f"backup.{one.name}" for one in pkgutil.iter_modules(backup.__path__)} - {"backup.emulator"}
    assert set(alone["forbidden_modules"]) == others
