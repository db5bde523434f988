"""systemd units with the paths of this machine filled into the templates of `deploy/systemd`; pure.

A template is a complete unit that works unchanged if everything is in its default place. Only what differs on
this machine is replaced: the program, the config, the state, other places to write to, devices, credentials.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

PROGRAM: Final = "/usr/local/bin/nightvault"
STATE: Final = "/var/lib/nightvault"
USER: Final = "nightvault"
_READS_ALL: Final = "CAP_DAC_READ_SEARCH"
_RUNS_JOBS: Final = "CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_FOWNER"
"""The rights of root's services that run jobs, and their commands."""
_MARK: Final = (
    "# Written by `nightvault install`, which replaces it only as long as nobody changed it. Change it with"
)
_DIGEST: Final = re.compile(r"# `systemctl edit`, which makes a file beside it\. sha256:([0-9a-f]{64})\n")
_OF_USERS: Final = """
Type ExecStart ExecStopPost Restart RestartSec RestartPreventExitStatus RestartForceExitStatus
SuccessExitStatus
KillSignal WatchdogSec
TimeoutStartSec TimeoutStopSec Nice IOSchedulingClass UMask NoNewPrivileges RestrictAddressFamilies
RestrictNamespaces RestrictRealtime LockPersonality MemoryDenyWriteExecute SystemCallArchitectures
SystemCallFilter SystemCallErrorNumber Description Conflicts WantedBy
OnCalendar OnBootSec OnUnitActiveSec Persistent AccuracySec RandomizedDelaySec
"""
"""Settings that a user's own service manager can carry out without the rights of root."""


class Places(Struct, frozen=True):
    """The values that differ from one machine to another.

    `config` is None where it lies in its usual place. `writable`: directories beside the state that are
    written to. `devices`: nodes that are read; `tpm`: the identity's key is in one. `credentials`: names, and
    where each lies. `changes_user`: commands of jobs run as other users. `is_user`: units of one user.
    """

    program: str = PROGRAM
    config: str | None = None
    state: str = STATE
    writable: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    tpm: bool = False
    credentials: tuple[tuple[str, str], ...] = ()
    changes_user: bool = False
    is_user: bool = False


def filled(template: str, places: Places) -> str:
    """Return the unit with these values."""
    return "".join(f"{line}\n" for old in template.splitlines() for line in _line(old, places))


def for_page(template: str, places: Places) -> str:
    """Return the unit of the web page: only the paths of the program and the state are filled in."""
    text = template.replace(PROGRAM, quoted(places.program))
    return text.replace(f":{STATE}/", f":{places.state}/")  # quotes would be part of it


def with_page(template: str) -> str:
    """Return the daemon's unit, changed so that the page's group may read a copy of the inventory."""
    text = template.replace(_RUNS_JOBS, f"{_RUNS_JOBS} CAP_CHOWN")
    return text.replace("StateDirectoryMode=0700", "StateDirectoryMode=0750")


def as_ordinary_user(template: str) -> str:
    """Return a service that runs as the user `nightvault`, who may read every file, instead of root."""
    if re.search(r"^(User=.*|\[Timer\])$", template, re.MULTILINE):
        return template
    text = template.replace("\nExecStart=", f"\nUser={USER}\nExecStart=", 1)
    return re.sub(
        r"^CapabilityBoundingSet=.*$",
        f"AmbientCapabilities={_READS_ALL}\nCapabilityBoundingSet={_READS_ALL}",
        text,
        flags=re.MULTILINE,
    )


def _line(line: str, places: Places) -> Iterator[str]:
    key, equals, value = line.partition("=")
    is_setting = bool(equals) and re.fullmatch(r"[A-Za-z]+", key) is not None
    if places.is_user and (line.startswith("#") or (is_setting and key not in _OF_USERS.split())):
        return
    if key in {"ExecStart", "ExecStopPost"}:
        yield f"{key}={value.replace(PROGRAM, ' '.join(_words(places)), 1)}"
        yield from _credentials(places) if key == "ExecStart" else ()
    elif key == "ProtectSystem":
        yield line
        yield from (f"ReadWritePaths=-{quoted(path)}" for path in places.writable)
    elif key == "WantedBy" and places.is_user:
        yield line.replace("multi-user.target", "default.target")
    elif key == "PrivateDevices" and (places.tpm or places.devices):
        yield from _devices(places)
    elif line == _RUNS_JOBS and places.changes_user:
        yield f"{line} CAP_SETUID CAP_SETGID"
    elif key in {"StateDirectory", "StateDirectoryMode"} and places.state != STATE:
        if key == "StateDirectory":
            yield f"ReadWritePaths={quoted(places.state)}"
    elif is_setting and value in {STATE, f"TMPDIR={STATE}"}:
        yield f"{key}={value.replace(STATE, quoted(places.state))}"
    else:
        yield line


def _words(places: Places) -> Iterator[str]:
    yield quoted(places.program)
    if places.config is not None:
        yield f"--config {quoted(places.config).replace('$', '$$')}"  # a word, unlike the program's path


def _credentials(places: Places) -> Iterator[str]:
    for name, path in places.credentials:
        encrypted = "Encrypted" if "/credstore.encrypted/" in path else ""
        yield f"LoadCredential{encrypted}={name}:{path}"  # quotes would be part of it


def _devices(places: Places) -> Iterator[str]:
    yield "DevicePolicy=closed"
    if places.tpm:
        yield "DeviceAllow=/dev/tpmrm0 rw"
    yield from (f"DeviceAllow={quoted(path)} r" for path in places.devices)


def quoted(path: str) -> str:
    """Quote a path for a unit file: specifiers escaped, in quotes if it contains blanks."""
    text = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"' if re.search(r"[\s\"'\\;]", text) else text


def with_times(timer: str, lines: Sequence[str], job: str, *, catches_up: bool = True) -> str:
    """Return the timer of a job with these lines in place of its `OnCalendar=`."""
    text = timer.replace("%i", job)
    if not catches_up:
        text = text.replace("\nPersistent=true\n", "\nPersistent=false\n")
    return re.sub(r"^OnCalendar=.*$", lambda _: "\n".join(lines), text, flags=re.MULTILINE)


def signed(text: str) -> str:
    """Return the unit with a checksum line by which a later change is recognised."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{_MARK}\n# `systemctl edit`, which makes a file beside it. sha256:{digest}\n{text}"


def is_untouched(text: str) -> bool:
    """Whether a file is still as `signed` made it."""
    first, _, rest = text.partition("\n")
    found = _DIGEST.match(rest)
    if first != _MARK or found is None:
        return False
    return hashlib.sha256(rest[found.end() :].encode()).hexdigest() == found[1]
