"""What a command imports: only what it needs, since that is most of a small command's time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import Server, directory_server

REPOSITORY = Path(__file__).resolve().parents[2]
_CODE = """
import gc, json, sys
earlier = set(sys.modules)  # what measures coverage imports as well
from backup.cli import main
before = [counts["collections"] for counts in gc.get_stats()]
try: main()
except SystemExit: pass
looked = [counts["collections"] for counts in gc.get_stats()] != before
with open(sys.argv[1], "w") as file: json.dump([sorted(set(sys.modules) - earlier), looked], file)
"""
SERVICES = (
    "boto3",
    "botocore",
    "urllib3",
    "sqlalchemy",
    "alembic",
    "asyncio",
    "ssl",
    "apscheduler",
    "awscrt",
)
BACKUP_NEEDS_NOT = (
    "rich",
    *(
        f"backup.{name}"
        for name in ("restorer", "cost", "notify", "checker", "rebuilder", "pruner", "driller")
    ),
    *(f"backup.app.{name}" for name in ("status.status", "status.parts", "status.metrics", "money.prices")),
)
_LIBRARIES = ("cryptography", "blake3", "zstandard", "pyfastcdc")
LOOKING_NEEDS_NOT = (
    *(
        f"backup.{name}"
        for name in ("archiver", "catalogs", "restorer", "transfer", "vault", "cost", "notify")
    ),
    *_LIBRARIES,
    "hashlib",
    "logging",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    made = directory_server(tmp_path_factory.mktemp("start"))
    made.init()
    made.done("backup")
    return made


def imported(server: Server, *words: str) -> set[str]:
    """The modules that a command has imported when it ends, in a process of its own."""
    told = server.folder / "modules.json"
    code = _CODE.replace("sys.argv[1]", repr(str(told)))
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", str(server.config), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    modules, looked_for_cycles = json.loads(told.read_text())
    assert done.stdout, done.stderr
    assert not looked_for_cycles, "Python looked for cycles among all that was imported"
    return set(modules)


@pytest.mark.parametrize(
    ("words", "needs_not", "most"),
    [
        (("backup",), BACKUP_NEEDS_NOT, 170),
        (("ls", "latest"), LOOKING_NEEDS_NOT, 58),
        (("find", "a.txt"), LOOKING_NEEDS_NOT, 60),
        (("runs",), LOOKING_NEEDS_NOT, 55),
        (("config", "check"), ("backup.restorer", "backup.app.status.parts", *_LIBRARIES), 59),
        (("status",), ("backup.archiver", "backup.restorer.restore", "backup.notify"), 113),
    ],
    ids=["backup", "ls", "find", "runs", "config check", "status"],
)
def test_only_what_it_needs_is_imported(
    server: Server, words: tuple[str, ...], needs_not: tuple[str, ...], most: int
) -> None:
    modules = imported(server, *words)
    assert not modules.intersection([*SERVICES, *needs_not])
    files = [name for name in modules if name.startswith("backup.") and not _is_folder(name)]
    assert len(files) <= most, "more is imported than before: is all of it needed?"


def _is_folder(module: str) -> bool:
    """Whether a module is a package: its `__init__` says what is in it, and little else."""
    return REPOSITORY.joinpath(*module.split(".")).is_dir()


def test_a_restore_needs_nothing_that_only_backups_need(server: Server, tmp_path: Path) -> None:
    words = ("restore", "latest", "--target", str(tmp_path / "back"), "--key", str(server.key_file), "--wait")
    modules = imported(server, *words)
    assert not modules.intersection([*SERVICES, "backup.archiver.backup", "backup.source.scan"])
