"""Commands in processes of their own: within a limit of the kernel, and what they take together."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
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


def most_resident(server: Server, *words: str) -> float:
    """Run a command to its end; return the most MiB that it and its helper processes had together (PSS)."""
    command = [sys.executable, "-c", "from backup.cli import main; main()", "--config", str(server.config)]
    most = 0
    with subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            most = max(most, _proportional(_tree(process.pid)))
            time.sleep(0.02)
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
    return most / KIB


def _tree(pid: int) -> list[int]:
    """A process with all below it."""
    found = [pid]
    for process in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{process}/task"):
                below = Path(f"/proc/{process}/task/{task}/children").read_text(encoding="ascii")
                found.extend(map(int, below.split()))
    return found


def _proportional(pids: Sequence[int]) -> int:
    """KiB of these processes together; one that still runs in the memory of its parent is counted once."""
    found = dict[str, int]()
    for pid in pids:
        with suppress(OSError, ValueError):
            first, *rest = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            found[first] = next(int(line.split()[1]) for line in rest if line.startswith("Pss:"))
    return sum(found.values())


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
