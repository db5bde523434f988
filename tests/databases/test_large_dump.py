"""A dump of any size in flat memory: a client makes it up, and the vault counts what it is sent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backup.memory import LEAST_MEMORY
from backup.model import MIB
from tests.databases.fake_clients import Clients
from tests.support import campaigns
from tests.support.limited_memory import limit_memory, most_addresses, server_of_parts

LARGE = campaigns.share("NIGHTVAULT_TEST_DUMP_MIB", 8192)
# Bytes that nobody compresses, in each 64 KiB of which a number says that it is new.
MADE_UP = """
import struct
size = int(open(os.path.dirname(__file__) + "/mib").read())
body = memoryview(os.urandom(1 << 20))
pieces = [body[start : start + (1 << 16) - 8] for start in range(0, 1 << 20, 1 << 16)]
sys.stdout.buffer.write(b"PGDMP")
for number in range(size):
    told = [struct.pack("<Q", number << 8 | at) + piece for at, piece in enumerate(pieces)]
    sys.stdout.buffer.write(b"".join(told))
"""
COUNTS = """
import atexit
from backup.vault import dirfd
really, count = dirfd.write_at, 0
def counted(handle, data, offset):
    global count
    if len(data) < 1 << 16:
        return really(handle, data, offset)
    count += len(data)
dirfd.write_at = counted
atexit.register(lambda: open({file!r}, "w").write(str(count)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mib", [256, pytest.param(LARGE, marks=pytest.mark.real)])
def test_a_dump_of_any_size_is_saved_in_the_least_memory(tmp_path: Path, mib: int) -> None:
    clients = Clients(tmp_path / "clients")
    clients.dumps(MADE_UP)
    (clients.folder / "mib").write_text("1")
    server = server_of_parts(tmp_path / "server")
    server.config.write_text(server.config.read_text() + clients.section('name = "shop"'))
    limit_memory(server, LEAST_MEMORY)
    counts = COUNTS.format(file=str(tmp_path / "count"))
    alone = most_addresses(server, first=counts)
    (clients.folder / "mib").write_text(str(mib))
    most_addresses(server, alone + LEAST_MEMORY, first=counts)
    (report, *_) = server.json("runs")
    assert report["outcome"] == "done"
    assert int((tmp_path / "count").read_text()) > mib * MIB
