"""Messages to systemd by sd_notify: datagrams to its socket; without systemd nothing is sent.

Source: sd_notify(3), systemd.service(5) on Type=notify-reload.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from msgspec import Struct


class Systemd(Struct, frozen=True):
    """The service manager that started this process: its socket, and the interval of its watchdog."""

    address: str | None = None
    watchdog_seconds: float | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Systemd:
        """Return the service manager that the environment variables name."""
        period, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        is_ours = process in {"", str(os.getpid())} and period.isdecimal()
        return cls(environ.get("NOTIFY_SOCKET"), int(period) / 2_000_000 if is_ours else None)

    def tell(self, *lines: str) -> None:
        """Send lines such as READY=1; errors are ignored."""
        if not self.address or self.address[0] not in "/@":
            return
        to = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(1)
            out.sendto("\n".join(lines).encode(), to)

    def reloading(self) -> None:
        """Send RELOADING=1: the config is read again; READY=1 must follow."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
