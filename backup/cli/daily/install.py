"""`nightvault install`: systemd units with the paths of this machine."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import NightvaultError, UsageError

if TYPE_CHECKING:
    from backup.app.machine.units import UnitFile
    from backup.config import Config

EXAMPLES = {"install": ("nightvault install --systemd --print", "nightvault install --systemd")}


@click.command()
@click.option("--systemd", is_flag=True, help="Write units for systemd (the only kind there is).")
@click.option("--user", "is_user", is_flag=True, help="For your own service manager, without root.")
@click.option(
    "--timers", is_flag=True, help="A timer for each job that has a schedule, instead of the daemon."
)
@click.option(
    "--unprivileged", is_flag=True, help="Run as the user nightvault, who may read every file, not as root."
)
@click.option("--print", "only_print", is_flag=True, help="Print what would be written; write nothing.")
@click.option("--replace", is_flag=True, help="Replace units that somebody changed, too.")
@click.option("--directory", metavar="DIR", help="Where the units go, if not where systemd looks for them.")
@pass_cli
def install(
    cli: Cli,
    systemd: bool,
    is_user: bool,
    timers: bool,
    unprivileged: bool,
    only_print: bool,
    replace: bool,
    directory: str | None,
) -> None:
    """Write systemd units, with the paths of this machine and of the config filled in.

    Nothing is started: the commands for that are printed. Units that somebody changed are not replaced.
    Run the command again after a change of paths, devices or schedules in the config.
    """
    from backup.app.machine.unit_places import places_of
    from backup.app.machine.units import UnitKind, planned, units_directory
    from backup.config import SYSTEM_CONFIG

    if not systemd:
        raise UsageError("for which service manager?", advice="give --systemd")
    if is_user and unprivileged:
        raise UsageError("--user and --unprivileged exclude each other", advice="--user needs no root at all")
    config = cli.config()
    places = places_of(config, _program(), is_user=is_user, usual_config=SYSTEM_CONFIG)
    where = os.path.abspath(directory) if directory else units_directory(is_user=is_user)
    kind = UnitKind.TIMERS if timers else UnitKind.DAEMON
    units = planned(config, kind, places, where, ordinary_user=unprivileged)
    if only_print:
        text = "\n".join(f"# {unit.path}\n{unit.text}" for unit in units)
        cli.show([_document(unit) | {"text": unit.text} for unit in units], text)
        return
    _require_untouched(units, replace=replace)
    _write(cli, units, where, is_user=is_user)
    cli.show([_document(unit) for unit in units])
    if not cli.json:
        _tell_what_remains(cli, config, units, where, is_user=is_user, unprivileged=unprivileged)


def _program() -> str:
    """The path by which systemd starts this program: the usual link to it, if there is one."""
    from backup.app.machine.unit_texts import PROGRAM

    named = shutil.which(sys.argv[0])
    mine = os.path.join(sys.prefix, "bin", "nightvault")
    found = os.path.abspath(named) if named and os.path.basename(named) == "nightvault" else mine
    if set(found) & set("\"'\\"):
        raise NightvaultError(
            f"systemd starts no program whose path has quotes or backslashes: {found}",
            advice=f"make a link to it: {PROGRAM}",
        )
    try:
        return PROGRAM if os.path.samefile(PROGRAM, found) else found
    except OSError:
        return found


def _document(unit: UnitFile) -> dict[str, object]:
    return {"path": unit.path, "was": unit.standing, "enable": unit.is_started}


def _require_untouched(units: Sequence[UnitFile], *, replace: bool) -> None:
    from backup.app.machine.units import Standing

    changed = [unit.path for unit in units if unit.standing is Standing.CHANGED]
    if changed and not replace:
        raise NightvaultError(
            f"somebody wrote or changed {', '.join(changed)}, so nothing was written",
            advice="bring your changes into `systemctl edit UNIT`, look at `nightvault install --systemd "
            "--print`, then give --replace",
        )


def _write(cli: Cli, units: Sequence[UnitFile], where: str, *, is_user: bool) -> None:
    from backup.app.machine.units import Standing, ask_systemd, write

    new = [unit for unit in units if unit.standing is not Standing.SAME]
    write(new)
    for unit in units:
        done = "as it is" if unit not in new else "written" if unit.standing is Standing.NEW else "replaced"
        cli.say(f"{done}: {unit.path}")
    if new:
        wrong = ask_systemd("daemon-reload", is_user=is_user, directory=where)
        if wrong:
            cli.warn(f"systemd did not read them: {wrong}")


def _tell_what_remains(
    cli: Cli, config: Config, units: Sequence[UnitFile], where: str, *, is_user: bool, unprivileged: bool
) -> None:
    """Say what an admin still has to do, and what the units do not allow."""
    from backup.app.machine.units import installed

    ours, changed = installed(where)
    here = {unit.path for unit in units}
    scope = "systemctl --user" if is_user else "systemctl"
    for path in [*ours, *changed]:
        name = os.path.basename(path)
        if path not in here and (name in _INSTEAD or _BACKUP_TIMER.fullmatch(name)):
            cli.warn(f"{name} is still there: if it runs, too, end it: {scope} disable --now {name}")
    for job in config.jobs:
        if job.hooks.before or job.hooks.after or job.hooks.on_failure or job.hooks.finally_:
            cli.warn(f"job {job.name} has hooks: what these units let them do is in docs/files.md")
    cli.report(None, "now, as root:" if not is_user else "now:")
    for line in _commands(config, units, scope, is_user=is_user, unprivileged=unprivileged):
        cli.report(None, f"  {line}")


_INSTEAD = frozenset({"nightvault.service", "nightvault-unprivileged.service"})
_PAGE = "nightvault-web.service"
_BACKUP_TIMER = re.compile(r"nightvault-backup@.+\.timer")
"""Units that run backups, too, or for a job that is not in the config any more."""


def _made(user: str, home: str) -> Iterator[str]:
    """The command that makes a user, if this machine has none of that name."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        yield f"useradd --system --home-dir {shlex.quote(home)} --shell /usr/sbin/nologin {user}"


def _commands(
    config: Config, units: Sequence[UnitFile], scope: str, *, is_user: bool, unprivileged: bool
) -> Iterator[str]:
    from backup.app.machine.units import Standing

    if not os.path.exists(os.path.join(config.state_dir, "keys")):
        yield "nightvault init"
    group = config.web.group if config.web and any(unit.name == _PAGE for unit in units) else None
    if group:
        yield from _made("nightvault-web", "/nonexistent")
        if group != "nightvault-web":
            yield f"usermod --append --groups {group} nightvault-web"
    if unprivileged:
        yield from _made("nightvault", config.state_dir)
        if group:
            yield f"usermod --append --groups {group} nightvault"
        theirs = [config.state_dir, *(vault.path for vault in config.vaults if vault.path)]
        yield f"chown -R nightvault: {' '.join(map(shlex.quote, theirs))}"
    if is_user:
        yield "loginctl enable-linger    # so that they run while you are not logged in"
    started = [unit for unit in units if unit.is_started]
    replaced = [unit.name for unit in started if unit.standing not in {Standing.NEW, Standing.SAME}]
    if replaced:  # what runs goes by what it began with: credentials, groups, paths
        yield f"{scope} try-restart {' '.join(replaced)}"
    yield f"{scope} enable --now {' '.join(unit.name for unit in started)}"
