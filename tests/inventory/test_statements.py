"""SQL stands in the inventory alone, made of the program's own texts: what comes from outside is a value."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.inventory.traced import DRIVER, Program

pytestmark = pytest.mark.no_cover  # it reads files, and runs nothing

REPOSITORY = Path(__file__).parents[2]
BACKUP = REPOSITORY / "backup"
OTHER_DATABASES = {
    "center/tables.py",  # policies of row-level security, in the database of a center
    "databases/mariadb.py",  # what is asked of a server that is backed up
    "databases/postgresql.py",  # what is asked of a server that is backed up
    "databases/sqlite.py",  # what is asked of a server that is backed up
    "web/guard/accounts.py",  # users and sessions of the page, in a file that is no inventory
}
STATEMENT = re.compile(
    r"\bSELECT\b.+\bFROM\b|\bSELECT 1\b|\bINSERT (OR \w+ )?INTO\b|\bUPDATE \w+ SET\b|\bDELETE FROM\b"
    r"|\bPRAGMA \w"
    r"|\b(CREATE|DROP|ALTER) (TEMP |UNIQUE )*(TABLE|INDEX|VIEW)\b|\bBEGIN (IMMEDIATE|EXCLUSIVE)\b",
    re.DOTALL,
)


def test_statements_are_made_of_the_program_s_own_texts() -> None:
    found = list(Program(REPOSITORY).statements())
    assert len(found) > 20, "calls of the driver"
    assert sorted(set().union(*(foreign for _, foreign in found))) == []


def outside() -> list[Path]:
    """The modules that are neither of the inventory nor of the emulator, which has a database of its own."""
    return [
        path
        for path in BACKUP.rglob("*.py")
        if path.relative_to(BACKUP).parts[0] not in {"inventory", "emulator"}
    ]


def test_sql_stands_in_the_inventory_alone() -> None:
    found = {
        str(path.relative_to(BACKUP))
        for path in outside()
        if STATEMENT.search(path.read_text())
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value)
    }
    assert found == OTHER_DATABASES


def test_the_driver_is_asked_by_the_inventory_alone() -> None:
    asks = re.compile(
        rf"{re.escape(DRIVER)}\b|from backup\.inventory\.store import .*\bdriver\b|\btx\.connection\b"
    )
    assert [str(path) for path in outside() if asks.search(path.read_text())] == []


DRIVERS_TEXT = """
def quoted(name): return checked(name)
def marks(values): return "?"
def numerals(numbers): return checked(numbers)
def executed(tx, sql, values):
    cursor = tx.connection.cursor()
    cursor.execute(sql, values)
    return cursor
def raw_rows(tx, sql, values): return executed(tx, sql, values)
"""
QUESTIONS = """
from backup.inventory.store.driver import executed, marks, numerals, quoted, raw_rows
from backup.model import State

_NAMES = ("a", "b")
_ALL = f"SELECT {', '.join(_NAMES)} FROM rows"
_OPEN = ", ".join(f"'{state}'" for state in State)

"""
GOOD = {
    "a constant": "raw_rows(tx, _ALL + ' WHERE a = ?', (value,))",
    "checked": "raw_rows(tx, f'{_ALL} WHERE b IN ({marks(values)}) OR a IN ({numerals(values)})', ())",
    "members": "raw_rows(tx, f'{_ALL} WHERE a IN ({_OPEN}) OR a = {State.OPEN}', ())",
    "a number": "raw_rows(tx, f'{_ALL} LIMIT {int(value)}', ())",
    "pairs": """
    chosen = {text: held for text, held in {'a = ?': value, 'b = ?': values}.items() if held is not None}
    raw_rows(tx, _ALL + ' AND '.join(chosen), tuple(chosen.values()))""",
    "a loop": """
    for table, column in (('rows', 'a'), ('others', 'b')):
        raw_rows(tx, f'DELETE FROM {table} WHERE {column} = ?', (value,))""",
}
BAD = {
    "a parameter": ("raw_rows(tx, f'{_ALL} LIMIT {value}', ())", "value"),
    "of %": ("raw_rows(tx, 'SELECT %s' % value, ())", "value"),
    "of format": ("raw_rows(tx, 'SELECT {}'.format(value), ())", "value"),
    "of +=": ("sql = _ALL\n    sql += value\n    raw_rows(tx, sql, ())", "value"),
    "of a list": ("parts = ['a']\n    parts.append(value)\n    raw_rows(tx, ' '.join(parts), ())", "value"),
    "of a key": ("parts = {}\n    parts[value] = 1\n    raw_rows(tx, ' '.join(parts), ())", "value"),
    "of a row": ("(name,) = raw_rows(tx, _ALL, ())\n    raw_rows(tx, f'DROP TABLE {name}', ())", "cursor()"),
    "a lambda's": ("ask = lambda name: raw_rows(tx, name, ())\n    ask(value)", "name"),
    "read": ("raw_rows(tx, open('file').read(), ())", "read"),
    "past the driver": ("tx.connection.execute(f'SELECT {value}')", "value"),
    "given away": ("do(executed)", "given away"),
}


def foreign(folder: Path, act: str) -> set[str]:
    """The foreign parts of a program with this function in the inventory, called from outside."""
    store = folder / "backup" / "inventory" / "store"
    store.mkdir(parents=True)
    (store / "driver.py").write_text(DRIVERS_TEXT)
    (store.parent / "questions.py").write_text(f"{QUESTIONS}def ask(tx, value, values):\n    {act.strip()}\n")
    (folder / "backup" / "app.py").write_text(
        "from backup.inventory.questions import ask\n\ndef main(words):\n    ask(tx, words[0], list(words))\n"
    )
    return set().union(*(parts for _, parts in Program(folder).statements()))


@pytest.mark.parametrize("act", GOOD.values(), ids=GOOD)
def test_of_the_program_s_own(tmp_path: Path, act: str) -> None:
    assert foreign(tmp_path, act) == set()


@pytest.mark.parametrize(("act", "named"), BAD.values(), ids=BAD)
def test_what_comes_from_outside_is_found(tmp_path: Path, act: str, named: str) -> None:
    found = foreign(tmp_path, act)
    where = "backup.app:4: words" if named == "value" else named
    assert any(where in part for part in found), found
