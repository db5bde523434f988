"""The systemd units of this machine: planned, compared with the installed ones, written and removed.

A file that was changed, or not written by us, is replaced only on request.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

from backup.app.machine.unit_texts import (
    Places,
    as_ordinary_user,
    filled,
    for_page,
    is_untouched,
    signed,
    with_page,
    with_times,
)
from backup.config import Config
from backup.errors import ConfigError, NightvaultError
from backup.files import sync_directory, write_durably
from backup.model import JobName
from backup.schedule import Calendar, CatchUp, Every, Schedule

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def timer_lines(schedule: Schedule, jitter: int = 0) -> list[str]:
    """Return the timer settings for a schedule, each time delayed by up to `jitter` seconds.

    An interval that divides an hour or a day becomes times of day, so that a missed one is caught up; any
    other counts from the last run, and starts again when the machine boots. Each time names its zone, so that
    the machine's own does not matter. Source: systemd.time(7), "Calendar Events".
    """
    rule, zone = schedule.rule, schedule.timezone
    late = [f"RandomizedDelaySec={jitter}s"] if jitter else []
    if isinstance(rule, Calendar):
        return [*(f"OnCalendar={event} {zone}" for event in _events(rule)), *late]
    return [*_interval_lines(rule, zone), *late]


def _interval_lines(rule: Every, zone: str) -> list[str]:
    interval = rule.interval
    if interval == _DAY:
        return [f"OnCalendar=*-*-* 00:00:00 {zone}"]
    if interval < _HOUR and not _HOUR % interval:
        return [f"OnCalendar=*-*-* *:0/{interval // _MINUTE}:00 {zone}"]
    if interval < _DAY and not _DAY % interval and not interval % _HOUR:
        return [f"OnCalendar=*-*-* 0/{interval // _HOUR}:00:00 {zone}"]
    return ["OnBootSec=10min", f"OnUnitActiveSec={int(interval.total_seconds())}s"]


def _events(rule: Calendar) -> Iterator[str]:
    """The calendar events of a crontab line: two where a day matches by its number or by its weekday."""
    time = f"{_list(rule.hours, 24)}:{_list(rule.minutes, 60)}:00"
    months = _list(rule.months, 12)
    days = _list(rule.days, 31)
    weekdays = ",".join(name for number, name in enumerate(_DAYS) if number in rule.weekdays)
    weekdays = "" if len(rule.weekdays) == len(_DAYS) else f"{weekdays} "
    if rule.either:
        yield f"*-{months}-{days} {time}"
        yield f"{weekdays}*-{months}-* {time}"
    else:
        yield f"{weekdays}*-{months}-{days} {time}"


def _list(numbers: Collection[int], most: int) -> str:
    return "*" if len(numbers) == most else ",".join(f"{number:02d}" for number in sorted(numbers))


SYSTEM_UNITS: Final = "/etc/systemd/system"
BOOTED: Final = "/run/systemd/system"  # there if systemd started this machine: sd_booted(3)
USER_UNITS: Final = "systemd/user"
_PATIENCE: Final = 60.0  # seconds
_PAGE: Final = "nightvault-web.service"
_DAEMONS: Final = frozenset({"nightvault.service", "nightvault-unprivileged.service"})
_SHIPPED: Final = ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_OVERDUE: Final = ("nightvault-overdue.service", "nightvault-overdue.timer")


class UnitKind(StrEnum):
    """The ways to run jobs: what the units start."""

    DAEMON = "daemon"
    TIMERS = "timers"


class Standing(StrEnum):
    """The state of an installed unit file; part of the JSON interface."""

    NEW = "new"  # nothing
    SAME = "same"
    OLD = "old"  # as an earlier install wrote it
    CHANGED = "changed"  # by a human, or written by one


class UnitFile(Struct, frozen=True):
    """A unit as planned; `is_started`: the admin enables this one."""

    path: str
    text: str
    standing: Standing
    is_started: bool

    @property
    def name(self) -> str:
        """The unit's name."""
        return os.path.basename(self.path)


def units_directory(*, is_user: bool) -> str:
    """The directory in which systemd, or the user's own, looks for units of the admin."""
    if not is_user:
        return SYSTEM_UNITS
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, USER_UNITS)


def templates_folder() -> str:
    """The folder of templates: inside the installed package, or in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for folder in (os.path.join(package, "systemd"), os.path.join(package, "..", "deploy", "systemd")):
        if os.path.isdir(folder):
            return os.path.normpath(folder)
    raise NightvaultError("this installation lacks its systemd units", advice="install nightvault again")


def planned(
    config: Config, kind: UnitKind, places: Places, directory: str, *, ordinary_user: bool = False
) -> list[UnitFile]:
    """Return the planned units, compared with the installed ones. `ConfigError` if no job has a schedule."""
    made = []
    for name, template, is_started in _templates(
        config, kind, ordinary_user=ordinary_user, is_user=places.is_user
    ):
        unit = filled(template, places)
        if config.web is not None and name in _DAEMONS:
            unit = with_page(unit)
        path, text = os.path.join(directory, name), signed(unit)
        made.append(UnitFile(path, text, _standing(path, text), is_started))
    if config.web is not None and kind is UnitKind.DAEMON and not places.is_user:
        path, text = os.path.join(directory, _PAGE), signed(for_page(_template(_PAGE), places))
        made.append(UnitFile(path, text, _standing(path, text), is_started=True))
    return made


def _templates(
    config: Config, kind: UnitKind, *, ordinary_user: bool, is_user: bool
) -> Iterator[tuple[str, str, bool]]:
    """The name of each unit, its template, and whether an admin enables it."""
    if kind is UnitKind.TIMERS:
        service = _template("nightvault-backup@.service")
        yield "nightvault-backup@.service", _for(service, ordinary_user), False
        timer = _template("nightvault-backup@.timer")
        timed = [(job, job.when) for job in config.jobs if job.when is not None]
        if not timed:
            raise ConfigError(
                f"{config.path}: no job has a schedule",
                advice='give one a line like schedule = "daily at 02:30"',
            )
        for job, when in timed:
            lines = timer_lines(when, job.jitter)
            text = with_times(timer, lines, job.name, catches_up=job.catch_up is CatchUp.ONCE)
            yield f"nightvault-backup@{job.name}.timer", text, True
    elif ordinary_user:
        yield "nightvault-unprivileged.service", _template("nightvault-unprivileged.service"), True
    else:
        yield "nightvault.service", _template("nightvault.service"), True
        if not is_user:
            yield "nightvault-restore@.service", _template("nightvault-restore@.service"), False
    service, timer = _OVERDUE
    yield service, _for(_template(service), ordinary_user), False
    yield timer, _template(timer), True


def _template(name: str) -> str:
    with open(os.path.join(templates_folder(), name), encoding="utf-8") as file:
        return file.read()


def _for(template: str, ordinary_user: bool) -> str:
    return as_ordinary_user(template) if ordinary_user else template


def _standing(path: str, text: str) -> Standing:
    there = _read(path)
    if there is None:
        return Standing.NEW
    if there == text:
        return Standing.SAME
    return Standing.OLD if is_untouched(there) else Standing.CHANGED


def _read(path: str) -> str | None:
    """Return the content of the installed file; None if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(units: Sequence[UnitFile]) -> None:
    """Write the units, each atomically."""
    from backup.safe_paths import make_folders

    for unit in units:
        make_folders(os.path.dirname(unit.path), 0o755)
        if os.path.islink(unit.path):  # a mask: what it points to is not ours
            os.unlink(unit.path)
        write_durably(unit.path, unit.text.encode(), mode=0o644)


def installed(directory: str) -> tuple[list[str], list[str]]:
    """Return the paths of our unchanged units, and those of units that were changed or are not ours."""
    patterns = [os.path.join(glob.escape(directory), f"nightvault*.{kind}") for kind in ("service", "timer")]
    found = sorted(path for pattern in patterns for path in glob.glob(pattern))
    ours = [path for path in found if is_untouched(_read(path) or "")]
    return ours, [path for path in found if path not in ours]


def has_timer(job: JobName) -> bool:
    """Whether a timer of a job is enabled, system-wide or for this user."""
    wanted = os.path.join("timers.target.wants", f"nightvault-backup@{job}.timer")
    folders = (SYSTEM_UNITS, units_directory(is_user=True))
    return any(os.path.exists(os.path.join(folder, wanted)) for folder in folders)


def has_daemon_unit() -> bool:
    """Whether a unit of the daemon is installed, system-wide or for this user."""
    folders = (SYSTEM_UNITS, *_SHIPPED, units_directory(is_user=True))
    return any(os.path.exists(os.path.join(folder, name)) for folder in folders for name in _DAEMONS)


def stop(paths: Sequence[str], directory: str, *, is_user: bool) -> list[str]:
    """Stop and disable units, and all instances of templates; returns systemd's error messages.

    What systemd has stored of them is removed, too: failures, and when a timer last elapsed, as a timer that
    is installed again would otherwise start a missed run.
    """
    names = [os.path.basename(path) for path in paths]
    single = [name for name in names if "@." not in name]
    by_template = [name.replace("@.", "@*.") for name in names if "@." in name]
    timers = [name for name in single if name.endswith(".timer")]
    # Of a timer "state" is when it elapsed; of a service it would be the state directory.
    steps = (("disable --now", single), ("stop", by_template), ("clean --what=state", timers))
    told = [
        ask_systemd(*words.split(), *units, is_user=is_user, directory=directory)
        for words, units in steps
        if units
    ]
    if names:
        ask_systemd("reset-failed", *single, *by_template, is_user=is_user, directory=directory)
    return [wrong for wrong in told if wrong]


def remove(paths: Sequence[str]) -> None:
    """Delete units, and the links by which they are enabled."""
    for path in paths:
        os.unlink(path)
        folder, name = os.path.split(path)
        for link in glob.glob(os.path.join(glob.escape(folder), "*.wants", glob.escape(name))):
            if os.path.islink(link):
                os.unlink(link)
    for folder in {os.path.dirname(path) for path in paths}:
        sync_directory(folder)


def ask_systemd(*words: str, is_user: bool, directory: str) -> str | None:
    """Run systemctl for the service manager that reads this directory; returns its error, "" if none.

    None if no service manager runs, as in a container or while an image is built.
    """
    systemctl = shutil.which("systemctl")
    if systemctl is None or not os.path.isdir(BOOTED) or directory != units_directory(is_user=is_user):
        return None
    scope = ["--user"] if is_user else []
    try:
        done = subprocess.run(
            [systemctl, *scope, "--no-ask-password", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode("utf-8", "backslashreplace").strip()
    return (said or f"it ended with {done.returncode}") if done.returncode else ""
