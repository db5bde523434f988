"""What a worker loads at its start: few of our modules, and no library that it might not find."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backup.restorer.writer.maker import MakerProcess
from backup.source.reader import ReaderProcess
from backup.source.scanner import ScannerProcess
from backup.workers.process import LIBRARIES
from backup.workers.worker import Worker
from tests.support.emulated import REPOSITORY

_CODE = """
import sys
before = set(sys.modules)
import backup.workers.worker, MODULE
for name in set(sys.modules) - before:
    file = getattr(sys.modules[name], "__file__", None) or ""
    if name.startswith("backup.") or "-packages" in file:
        print(name)
"""


@pytest.mark.parametrize(
    ("kind", "most"),
    [(ScannerProcess, 17), (ReaderProcess, 20), (MakerProcess, 28)],
    ids=["scanner", "reader", "maker"],
)
def test_it_loads_little(kind: type[Worker], most: int) -> None:
    code = _CODE.replace("MODULE", kind.module)
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True)
    loaded = done.stdout.decode().split()
    libraries = {name.partition(".")[0] for name in loaded if not name.startswith("backup.")}
    assert "msgspec" in libraries
    assert libraries <= {*LIBRARIES, "typing_extensions"}, "msgspec asks for that one, and does without"
    ours = [name for name in loaded if name.startswith("backup.")]
    assert len(ours) <= most, "more is loaded than before: is all of it needed?"
