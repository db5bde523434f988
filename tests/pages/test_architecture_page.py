"""docs/architecture.md: every file that it names exists, and every module of a described folder is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "backup"
PAGE = REPOSITORY / "docs" / "architecture.md"
_NAME = re.compile(r"`([\w/]+\.(?:py|md))(?::\w+)?`")
DESCRIBED = [
    "app",
    "archiver",
    "checker",
    "config",
    "cost",
    "credentials",
    "daemon",
    "driller",
    "format",
    "inventory",
    "notify",
    "pki",
    "pruner",
    "rebuilder",
    "restorer",
    "retention",
    "source",
    "transfer",
    "vault",
    "web",
]


def _names() -> set[str]:
    return set(_NAME.findall(PAGE.read_text(encoding="utf-8")))


def test_files_that_the_page_names_exist() -> None:
    """A name with a folder is a path in the package or repository; one without is that of some file there."""
    plain = {path.name for folder in ("backup", "docs") for path in (REPOSITORY / folder).rglob("*.*")}
    plain |= {path.name for path in REPOSITORY.iterdir()}
    for name in _names():
        places = [PACKAGE / name, REPOSITORY / name]
        assert any(place.is_file() for place in places) if "/" in name else name in plain, name


@pytest.mark.parametrize("folder", DESCRIBED)
def test_modules_of_described_folders_are_named(folder: str) -> None:
    """By their path or their plain name."""
    names = {name.rpartition("/")[2] for name in _names()}
    modules = {path.name for path in (PACKAGE / folder).rglob("*.py")} - {"__init__.py"}
    assert modules - names == set()


def test_the_floors_are_those_of_the_contract() -> None:
    """In the same order, from the top down; the page leaves out what is not there yet, in parentheses."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (one["layers"] for one in contracts["contracts"] if one["id"] == "floors")
    floors = PAGE.read_text(encoding="utf-8").split("\n## Floors\n")[1].split("```")[1].strip().splitlines()
    assert [_modules(re.split(r"\s{3,}", line)[0]) for line in floors] == [_modules(one) for one in layers]


def _modules(layer: str) -> set[str]:
    return {one.strip() for one in layer.split("|") if not one.strip().startswith("(")}
