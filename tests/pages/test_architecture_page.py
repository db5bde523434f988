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
_FUNCTION = re.compile(r"`([\w/]+\.py):(\w+)`")
_AFTER_A_COMMA = re.compile(r"`([\w/]+\.py)`, `(\w+)`")


def test_files_that_the_page_names_exist() -> None:
    """Each name is a path in the package, the repository or `docs`; in the row of a room, in that room."""
    wrong = set()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        room = re.match(r"\| `([\w/]+)/` \|", line)
        folders = [PACKAGE, REPOSITORY, REPOSITORY / "docs", *([PACKAGE / room[1]] if room else [])]
        named = set(_NAME.findall(line))
        wrong |= {name for name in named if not any((folder / name).is_file() for folder in folders)}
    assert wrong == set()


def test_what_the_page_names_in_a_file_is_there() -> None:
    """A function after a colon, a name after a comma."""
    text = PAGE.read_text(encoding="utf-8")
    found = [*_FUNCTION.findall(text), *_AFTER_A_COMMA.findall(text)]
    assert len(found) > 15
    for file, name in found:
        path = next(path for path in (PACKAGE / file, REPOSITORY / file) if path.is_file())
        code = path.read_text(encoding="utf-8")
        assert re.search(rf"\b{name}\b", code), f"{file} has no {name}"


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


def test_each_word_has_one_row() -> None:
    """One word, one thing: none stands in two rows of the glossary."""
    glossary = PAGE.read_text(encoding="utf-8").split("\n## Words\n")[1].split("\n## ")[0]
    words = [
        word.strip()
        for row in glossary.splitlines()
        if row.startswith("| ") and not row.startswith("| word |")
        for word in re.split("[,;]", row.split("|")[1])
    ]
    assert len(words) > 80
    assert sorted(word for word in set(words) if words.count(word) > 1) == []


def test_the_floors_are_those_of_the_contract() -> None:
    """In the same order, from the top down."""
    shown = PAGE.read_text(encoding="utf-8").split("\n## Floors\n")[1].split("```")[1].strip().splitlines()
    named = [{name.strip() for name in re.split(r"\s{3,}", line)[0].split("|")} for line in shown]
    assert named == [set(floor) for floor in floors()]
