"""A vault's kind is named in the config and decided on below `vault/`: nothing above knows one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

BACKUP = Path(__file__).parent.parent / "backup"
BLIND = ("archiver", "catalogs", "restorer", "retention", "checker", "transfer", "inventory")
KINDS = re.compile(r"glacier|\bs3\b|s3vault|\bbucket\b|deep_archive", re.IGNORECASE)


def words_of(source: str) -> Iterator[str]:
    """Every name and text of a program but its docstrings; comments decide nothing."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    said = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("package", BLIND)
def test_nothing_above_the_seam_decides_by_a_vaults_kind(package: str) -> None:
    found = {
        f"{path.relative_to(BACKUP)}: {word}"
        for path in [*(BACKUP / package).rglob("*.py"), *BACKUP.glob(f"{package}.py")]
        for word in words_of(path.read_text(encoding="utf-8"))
        if KINDS.search(word)
    }
    assert found == set()


def test_the_search_finds_what_it_is_for() -> None:
    source = 'from backup.vault.glacier import x\nif vault.kind == "s3":\n    pass\nS3Vault\n"""GLACIER"""\n'
    assert [bool(KINDS.search(word)) for word in words_of(source)].count(True) >= 3
    assert not any(KINDS.search(word) for word in words_of('def f():\n    """A Glacier thing."""\n'))
