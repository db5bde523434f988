"""A backup in a process of its own that the kernel gives no more memory than that."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from backup.app.base.clock import SystemClock
from backup.model import KIB, MIB
from tests.support.servers import Server, directory_server

_PROGRAM = """
import atexit, sys
from backup.cli import main
atexit.register(lambda: print(open("/proc/self/status").read(), file=sys.stderr))
main()
"""

# glibc gives back at once what was freed, and reserves no addresses for each thread: else it keeps some
# 20 MiB for later, by chance.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(128 * KIB)}


def _limited(addresses: int) -> Callable[[], None]:
    """What a child does first: no more bytes of addresses than that, as `ulimit -v`, and small stacks."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (MIB, MIB))
        resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))

    return limit


def server_of_parts(folder: Path) -> Server:
    """A server whose vault is sent parts: one with a limit, if no narrow one, takes no whole files."""
    server = directory_server(folder, clock=SystemClock())
    text = server.config.read_text().replace("[[vault]]\n", '[[vault]]\nupload_limit = "4GiB/s"\n')
    server.config.write_text(text)
    server.init()
    return server


def limit_memory(server: Server, memory: int) -> None:
    """Write it into the config."""
    text = server.config.read_text()
    server.config.write_text(re.sub(r"\A(\[limits\]\n.*\n)?", f"[limits]\nmemory = {memory}\n", text))


def most_addresses(server: Server, addresses: int = resource.RLIM_INFINITY, *, first: str = "") -> int:
    """Back up in a process of its own, which runs `first` before; return the most addresses that it had."""
    done = subprocess.run(
        [sys.executable, "-c", first + _PROGRAM, "--config", str(server.config), "backup", "main"],
        preexec_fn=_limited(addresses),
        env={**os.environ, **_ALLOCATOR},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"VmPeak:\s*(\d+) kB", done.stderr)
    assert found
    return int(found[1]) * 1024
