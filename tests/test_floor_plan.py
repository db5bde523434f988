"""The import contracts name every package there is, so that a new one is held to them; files are
written durably, and locked, in one place; tests share helpers, and nothing else."""

from __future__ import annotations

import ast
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import backup
import backup.cli

pytestmark = pytest.mark.no_cover  # it reads files, and runs nothing

REPOSITORY = Path(__file__).parent.parent


def contract(name: str) -> dict[str, Any]:
    """An import contract, by its id."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract["id"] == name)


def modules_in(package: ModuleType) -> set[str]:
    """The modules and packages right below a package, dotted."""
    return {f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)}


def test_the_emulator_is_held_apart_from_everything_else() -> None:
    assert set(contract("emulator-alone")["forbidden_modules"]) == modules_in(backup) - {"backup.emulator"}


def test_the_authority_is_held_apart_from_all_but_the_commands_of_keys() -> None:
    others = modules_in(backup) | modules_in(backup.cli)
    assert set(contract("pki-only-cli")["source_modules"]) == others - {
        "backup.cli",
        "backup.cli.keys",
        "backup.pki",
    }


def test_contracts_hold_over_every_import_between() -> None:
    """None of them looks at direct imports alone."""
    for name in (
        "emulator-alone",
        "pki-only-cli",
        "page-without-keys",
        "center-without-keys",
        "emulator-core",
    ):
        assert "allow_indirect_imports" not in contract(name), name


BY_HAND = {
    "catalogs/packing.py",  # a pack grows in its place, and counts only once a row names it
    "files.py",
    "inventory/rebuilt/building.py",  # SQLite wrote the file
    "restorer/pack_keys.py",  # keys are wiped where they lie
    "restorer/writer/partial_files.py",  # thousands of files, synced together by their file system
    "vault/layout.py",  # an upload's data are written in pieces, in their place
}
"""Modules that sync, lock or create a file exclusively by hand, and why."""


BY_HAND_WORDS = re.compile(rb"sync|lock|O_EXCL")
"""In a file without any of these nothing has to be looked for; to parse each file takes long."""


def test_files_are_written_durably_and_locked_in_one_place() -> None:
    package = REPOSITORY / "backup"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] != "emulator" and BY_HAND_WORDS.search(path.read_bytes())
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and node.attr in {"fsync", "fdatasync", "flock", "lockf", "O_EXCL"}
    }
    assert found == BY_HAND


SHARED = {"tests.support", "tests.upgrade", "tests.vectors.format"}
"""Packages of the tests that any test may import from."""

IMPORTS = re.compile(
    r"^[ \t]*((?:from tests\b[\w.]* import|import tests\b)(?: \([^)]*\)|[^\n(]*))", re.MULTILINE
)
"""Statements that import from the tests: to parse whole files for them takes long."""


def imports_of(path: Path) -> set[str]:
    """Modules of the tests that a file imports, `from package import module` too."""
    found = set()
    for node in ast.walk(ast.parse("\n".join(IMPORTS.findall(path.read_text(encoding="utf-8"))))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("tests.")}


def test_tests_share_helpers_and_never_import_each_other() -> None:
    """A helper of one folder lies in that folder; what more of them use lies in `tests/support`."""
    tests = REPOSITORY / "tests"
    wrong = set()
    for path in tests.rglob("*.py"):
        if b"tests." not in path.read_bytes():
            continue
        folder = ".".join(path.relative_to(REPOSITORY).parent.parts)
        for name in imports_of(path):
            *package, module = name.split(".")
            file = REPOSITORY.joinpath(*package, f"{module}.py")
            if not file.exists() or ".".join(package) in SHARED:
                continue
            is_test = module.startswith("test_")
            if is_test or not f"{folder}.".startswith(f"{'.'.join(package)}."):
                wrong.add(f"{path.relative_to(REPOSITORY)} imports {name}")
    assert not wrong
    assert [path.name for path in tests.glob("*.py") if not path.name.startswith(("test_", "conftest"))] == []


def test_decisions_are_numbered_from_one_on_without_a_gap() -> None:
    """Each by its own number, which its heading says too."""
    decisions = sorted((REPOSITORY / "docs" / "adr").glob("[0-9]*.md"))
    numbers = range(1, len(decisions) + 1)
    assert [path.name[:5] for path in decisions] == [f"{number:04}-" for number in numbers]
    headings = [path.read_text(encoding="utf-8").split(".", 1)[0] for path in decisions]
    assert headings == [f"# {number}" for number in numbers]


def test_a_file_is_a_few_screens_and_a_function_is_one() -> None:
    """A file has 400 lines at most, a function 60."""
    long = set()
    for path in (REPOSITORY / "backup").rglob("*.py"):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(REPOSITORY)
        if text.count("\n") > 400:
            long.add(str(name))
        if text.count("\n") <= 60:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= 60:
                    long.add(f"{name}: {node.name}")
    assert not long


CLASS_NAME = re.compile(rb"^ *class _*(\w+)", re.MULTILINE)


PURE = (
    *("format", "retention", "cost", "schedule.py", "memory.py", "lineage.py", "restorer/ranges.py"),
    *("credentials/signer.py", "driller/sample.py", "driller/money.py", "app/tasks/times.py"),
)
"""Packages and modules of bytes and values alone: docs/architecture.md, "Style"."""


TOUCHES_THE_WORLD = {
    *(
        "asyncio",
        "concurrent",
        "fcntl",
        "http",
        "io",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "resource",
    ),
    *("secrets", "select", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time"),
}
"""Modules of Python that know of clocks, disks, networks, chance, processes or threads."""


def worldly(tree: ast.AST) -> Iterator[str]:
    """The imports and calls by which a module touches the world."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in TOUCHES_THE_WORLD)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in TOUCHES_THE_WORLD:
            yield f"{node.module}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "open" or called.rpartition(".")[2] in {"now", "utcnow", "today", "urandom"}:
                yield f"{called}()"


def test_pure_modules_touch_neither_clock_nor_disk_nor_network_nor_chance() -> None:
    package = REPOSITORY / "backup"
    files = {file for name in PURE for file in [package / name, *(package / name).rglob("*.py")]}
    found = {
        f"{file.relative_to(package)}: {name}"
        for file in files
        if file.suffix == ".py"
        for name in worldly(ast.parse(file.read_bytes()))
    }
    assert found == set()


def test_the_test_of_pure_modules_sees_what_is_none() -> None:
    code = "import os.path\nfrom time import sleep\nimport datetime\ndatetime.datetime.now()\nopen('a')\n"
    assert list(worldly(ast.parse(code))) == ["os.path", "time", "datetime.datetime.now()", "open()"]


ASKS_FOR_RETRIEVALS = {
    "request_retrieval": {
        "transfer/retrievals/ask.py:_request": "for what was recorded, or is in a rebuild's journal",
        "transfer/succession.py:_may_be_by": "for a header, where lists are made at once",
        "copier/copy.py:_bring": "for what `_send` has held to a limit, of a vault that waits for nothing",
        "transfer/whole.py:read": "of a vault where a fetch costs nothing, which `copier.copy` asks about",
        "app/doctor/rights.py:_retrieve": "for an archive that is nowhere: a right is tried",
        "locker/vault_lock.py:_asked": "for the archive of one byte that a trial has stored, in bulk",
        "app/doctor/recovery.py:_readable": "of a vault that waits for nothing",
    },
    "transfer.retrievals.ask.ask": {
        "restorer/asking.py:_ask_for_planned": "for what `plan_retrievals` recorded",
        "checker/read_sample.py:_ask": "for what `plan_readings` recorded",
        "transfer/fetching/fetch.py:_ask_for": "",
    },
    "plan_retrievals": {"restorer/restore.py:_record": "as `begin_restore` says, which alone calls it"},
    "restorer.restore._record": {"restorer/restore.py:begin_restore": ""},
    "plan_readings": {"checker/read_sample.py:begin_reading": ""},
}
"""By whom a retrieval is requested or recorded, and for what; without a word: held to a limit there."""


def callers(of: str) -> dict[str, ast.FunctionDef]:
    """The functions and methods that call a function; one with dots only where its module has its name."""
    module, _, name = of.rpartition(".")
    found = {}
    for path in sorted((REPOSITORY / "backup").rglob("*.py")):
        file = path.relative_to(REPOSITORY / "backup").as_posix()
        text = path.read_text(encoding="utf-8")
        own = file.removesuffix(".py").replace("/", ".")
        is_known = not module or own == module or (name[0] != "_" and f"from backup.{module}" in text)
        if f"{name}(" not in text or not is_known:
            continue
        for holder in ast.walk(ast.parse(text)):
            for function in holder.body if isinstance(holder, ast.Module | ast.ClassDef) else ():
                if isinstance(function, ast.FunctionDef) and function.name != name:
                    called = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
                    if any(ast.unparse(to).rpartition(".")[2] == name for to in called):
                        found[f"{file}:{function.name}"] = function
    return found


@pytest.mark.parametrize("name", ASKS_FOR_RETRIEVALS)
def test_nothing_is_retrieved_before_it_was_held_to_a_limit_of_cost(name: str) -> None:
    found = callers(name)
    assert found.keys() == ASKS_FOR_RETRIEVALS[name].keys()
    for place, word in ASKS_FOR_RETRIEVALS[name].items():
        lines = ast.unparse(found[place]).splitlines()
        held = next((number for number, line in enumerate(lines) if ".hold(" in line), len(lines))
        asked = next(number for number, line in enumerate(lines) if f"{name.rpartition('.')[2]}(" in line)
        assert (held < asked) == (not word), place


NAMED_FILE = re.compile(r"`([\w/]+\.py)(?::\w+)?`")


def test_files_that_code_names_are_there() -> None:
    """A name with a folder is a path in repository or package, or one nearby; another one that of a file."""
    folders = [REPOSITORY / name for name in ("backup", "tests", "migrations", "deploy")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    names = {path.name for path in [*files, *REPOSITORY.glob("*.py")]} | {"a_b.py"}  # the command `a-b`
    wrong = set()
    for path in files:
        near = [REPOSITORY, *folders, REPOSITORY / "backup" / "emulator", *path.parents[:2]]
        for name in NAMED_FILE.findall(path.read_text(encoding="utf-8")):
            there = any((folder / name).is_file() for folder in near) if "/" in name else name in names
            if not there:
                wrong.add(f"{path.relative_to(REPOSITORY)}: {name}")
    assert wrong == set()


SHARED_NAMES = {
    "Operation": "each service of the emulator has its own table of operations, and none knows another",
}
"""Names of three classes or more, and the reason."""


def test_a_class_has_a_name_that_few_others_have() -> None:
    """One word, one thing: no name of three classes, with or without an underscore, but for a reason."""
    places: dict[str, list[str]] = {}
    for path in (REPOSITORY / "backup").rglob("*.py"):
        for found in CLASS_NAME.findall(path.read_bytes()):
            places.setdefault(found.decode(), []).append(str(path.relative_to(REPOSITORY)))
    assert {name: files for name, files in places.items() if len(files) > 2}.keys() == SHARED_NAMES.keys()


VAGUE_LOOP = re.compile(rb"\bfor (?:\w+, )*one(?:, \w+)* in ")


def test_loops_name_what_they_go_over() -> None:
    """`for snapshot in`, so that a line can be read without the one that filled the list."""
    found = [
        str(path.relative_to(REPOSITORY))
        for folder in ("backup", "tests", "deploy", "migrations")
        for path in (REPOSITORY / folder).rglob("*.py")
        if VAGUE_LOOP.search(path.read_bytes())
    ]
    assert found == []


OF_OTHERS = {
    ("support/quick_clients.py", "_cache"),  # botocore's loader takes no cache
    ("vault/test_glacier.py", "_credentials"),  # botocore's own way to credentials that renew themselves
}
"""Private names that tests set: those of other people's modules, where there is no other way."""


SETS_PRIVATE = re.compile(rb"(set|del)attr\(|\._\w+(: [^=]+)? ?[-+*/|&]?= ")
"""Whatever `patched_in` finds looks like this; only such files are parsed."""


def patched_in(tree: ast.AST) -> set[str]:
    """The names that are set from outside: by `setattr` of anything, or by an assignment."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"setattr", "delattr"}:
            place, *more = node.args[:2]
            named = more[0] if isinstance(place, ast.Name | ast.Attribute) and more else place
            if isinstance(named, ast.Constant):
                found |= set(str(named.value).split("."))
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) not in {"self", "cls"}:
                found.add(target.attr)
    return found


def test_tests_patch_no_private_names() -> None:
    """What a test must set is a parameter, a public constant, or a seam of `protocols.py`."""
    tests = REPOSITORY / "tests"
    found = {
        (str(path.relative_to(tests)), name)
        for path in tests.rglob("*.py")
        if SETS_PRIVATE.search(path.read_bytes())
        for name in patched_in(ast.parse(path.read_bytes()))
        if name.startswith("_") and not name.startswith("__")
    }
    assert found == OF_OTHERS
