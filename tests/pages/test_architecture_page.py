"""docs/architecture.md: every file that it names exists, and every room is described by its own docstring."""

from __future__ import annotations

import re

from tests.pages.rooms import (
    EMULATOR_PAGE,
    PACKAGE,
    PAGE,
    REPOSITORY,
    emulator_table,
    floors,
    paragraphs,
    table,
    with_table,
)

_NAME = re.compile(r"`([\w/]+\.(?:py|md))(?::\w+)?`")


def _names() -> set[str]:
    return set(_NAME.findall(PAGE.read_text(encoding="utf-8")))


def test_files_that_the_page_names_exist() -> None:
    """A name with a folder is a path in the package or repository; one without is that of some file there."""
    plain = {path.name for folder in ("backup", "docs") for path in (REPOSITORY / folder).rglob("*.*")}
    plain |= {path.name for path in REPOSITORY.iterdir()}
    for name in _names():
        places = [PACKAGE / name, REPOSITORY / name]
        assert any(place.is_file() for place in places) if "/" in name else name in plain, name


def test_each_room_is_described_in_its_own_words() -> None:
    """The tables of rooms are what `python -m tests.pages.rooms` makes of the packages' docstrings."""
    page, emulator = PAGE.read_text(encoding="utf-8"), EMULATOR_PAGE.read_text(encoding="utf-8")
    assert with_table(page, table()) == page
    assert with_table(emulator, emulator_table()) == emulator


def test_the_emulators_rooms_name_each_of_their_files() -> None:
    """And none that is not there; a name with a folder is a path in the emulator."""
    emulator = PACKAGE / "emulator"
    files = {str(path.relative_to(emulator)) for path in emulator.rglob("*.py")}
    known = files | {file.rpartition("/")[2] for file in files}
    for room in emulator.rglob("__init__.py"):
        named = set(_NAME.findall(" ".join(paragraphs(room))))
        assert {path.name for path in room.parent.glob("*.py")} - {"__init__.py"} - named == set(), room
        assert named - known == set(), room


def test_the_floors_are_those_of_the_contract() -> None:
    """In the same order, from the top down."""
    shown = PAGE.read_text(encoding="utf-8").split("\n## Floors\n")[1].split("```")[1].strip().splitlines()
    named = [{name.strip() for name in re.split(r"\s{3,}", line)[0].split("|")} for line in shown]
    assert named == [set(floor) for floor in floors()]
