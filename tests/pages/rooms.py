"""The tables of rooms in docs/architecture.md and docs/emulator.md, made of the packages' docstrings."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "backup"
PAGE = REPOSITORY / "docs" / "architecture.md"
EMULATOR_PAGE = REPOSITORY / "docs" / "emulator.md"
HEADING = "\n## Rooms\n"


def floors() -> list[list[str]]:
    """The names on each floor, from the top down, as the import contract has them."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "floors")
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def table() -> str:
    """The table: each module of the top, each package and its wings, in the order of the floors.

    The emulator's wings are in a table of their own.
    """
    rows = ["| room | what is there |", "|---|---|"]
    for name in (name for floor in floors() for name in floor):
        module = PACKAGE / f"{name}.py"
        if module.exists():
            rows.append(f"| `{name}.py` | {first_sentence(module)} |")
            continue
        for file in sorted((PACKAGE / name).rglob("__init__.py")):
            room = file.parent.relative_to(PACKAGE)
            if name != "emulator" or room.name == "emulator":
                rows.append(f"| `{room}/` | {first_sentence(file)} |")
    return "\n".join(rows) + "\n"


def emulator_table() -> str:
    """The emulator's packages, each with all that its docstring says."""
    rows = ["| room | what is there |", "|---|---|"]
    for file in sorted((PACKAGE / "emulator").rglob("__init__.py")):
        rows.append(f"| `{file.parent.relative_to(PACKAGE)}/` | {' '.join(paragraphs(file))} |")
    return "\n".join(rows) + "\n"


def paragraphs(file: Path) -> list[str]:
    """The paragraphs of a module's docstring, each as one line."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return [" ".join(paragraph.split()).replace("|", "\\|") for paragraph in text.split("\n\n")]


def first_sentence(file: Path) -> str:
    """The first paragraph of a module's docstring."""
    return paragraphs(file)[0]


def with_table(page: str, rows: str) -> str:
    """The page with these rows of its table of rooms, in place of all from the first that begins with `|`."""
    before, _, after = page.partition(HEADING)
    lines = after.split("\n")
    first = next(index for index, line in enumerate(lines) if line.startswith("|"))
    end = next(index for index in range(first, len(lines)) if not lines[index].startswith("|"))
    return before + HEADING + "\n".join([*lines[:first], rows.rstrip("\n"), *lines[end:]])


if __name__ == "__main__":
    for path, rows in ((PAGE, table()), (EMULATOR_PAGE, emulator_table())):
        path.write_text(with_table(path.read_text(encoding="utf-8"), rows), encoding="utf-8")
