"""A command is in the file of its name, in the folder of its group; other files there are its screens."""

from __future__ import annotations

import ast
from pathlib import Path

from backup import cli
from backup.cli import COMMANDS, FOLDERS, OLD_NAMES, SECTIONS

FOLDER = Path(cli.__file__).parent


def test_each_command_has_a_file_of_its_name() -> None:
    groups = {name: section for section, names in SECTIONS.items() for name in names}
    for name, command in COMMANDS.items():
        word = name.replace("-", "_")
        folder = "keys" if name in OLD_NAMES else FOLDERS[groups[name]]
        assert command.target == f"backup.cli.{folder}.{word}:{word}"


def test_each_file_that_makes_a_command_of_its_name_has_one() -> None:
    """A file is a command's if a function of its name is one; the others in these folders are screens."""
    files = {file for name in set(FOLDERS.values()) for file in (FOLDER / name).glob("*.py")}
    assert {file.stem for file in files if _has_a_command(file)} == {
        name.replace("-", "_") for name in COMMANDS
    }


def test_no_command_imports_another() -> None:
    """Nor does any other file of the CLI import one, so none can by way of it; a group has its commands."""
    commands = {command.target.partition(":")[0] for command in COMMANDS.values()}
    group = {"backup.cli.keys.aws_keys"}
    for file in FOLDER.rglob("*.py"):
        name = ".".join(("backup.cli", *file.relative_to(FOLDER).with_suffix("").parts))
        if name not in group:
            assert commands.isdisjoint(_imported(file)), name


def _imported(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _has_a_command(file: Path) -> bool:
    return any(
        isinstance(node, ast.FunctionDef) and node.name == file.stem and node.decorator_list
        for node in ast.parse(file.read_text(encoding="utf-8")).body
    )
