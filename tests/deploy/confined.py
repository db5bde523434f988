"""Runs a command as the system call filters of a unit would let it: `confined.py UNIT-FILE -- COMMAND…`.

What systemd does for `SystemCallFilter=`, `RestrictAddressFamilies=` and `MemoryDenyWriteExecute=` is done by
the same library (libseccomp) and with systemd's own lists of calls; then the command takes this process over.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_EQUAL = 4
_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1  # <linux/prctl.h>


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@cache
def _sets() -> dict[str, list[str]]:
    """Systemd's own sets of calls, which may name other sets, by this machine's systemd."""
    words = ["systemd-analyze", "--no-pager", "syscall-filter"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("@"):
            name = line.strip()
            found[name] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            found.setdefault(name, []).append(line.strip())
    return found


def calls_of(name: str) -> set[str]:
    """A call, or the calls of a set such as `@system-service`."""
    if not name.startswith("@"):
        return {name}
    return {call for word in _sets()[name] for call in calls_of(word)}


def allowed(text: str) -> set[str]:
    """The calls that a unit may make; later lines add, or take away with `~`."""
    found: set[str] = set()
    for value in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        names = set().union(*(calls_of(word) for word in value.removeprefix("~").split()))
        found = found - names if value.startswith("~") else found | names
    return found


def confine(text: str) -> None:
    """Confine this process, and all that it starts, as the unit of that text is."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE)))
    add = library.seccomp_rule_add_array
    for name in sorted(allowed(text) - {"socket"}):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            add(context, ctypes.c_uint32(_ALLOW), number, 0, None)
    (families,) = re.findall(r"^RestrictAddressFamilies=(.*)$", text, re.MULTILINE)
    for family in families.split():
        one = _Compare(0, _EQUAL, getattr(socket, family), 0)
        number = library.seccomp_syscall_resolve_name(b"socket")
        add(context, ctypes.c_uint32(_ALLOW), number, 1, ctypes.byref(one))
    if "\nMemoryDenyWriteExecute=true\n" in text:
        _require(ctypes.CDLL(None, use_errno=True).prctl(_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0))
    _require(library.seccomp_load(context))


def _require(code: int) -> None:
    if code < 0:
        raise OSError(-code if code != -1 else ctypes.get_errno(), "cannot confine this process")


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[3], sys.argv[3:])
