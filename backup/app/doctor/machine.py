"""Checks of this machine's files: modes, recovery keys among them, and where recovery lines are kept."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from backup.app.backups.contexts import read_signer, recipients_of
from backup.app.base.opened import opened
from backup.app.base.state import State, parse_recipients
from backup.app.doctor import table
from backup.app.doctor.finding import DoctorContext, Finding
from backup.app.machine.page_access import is_open_to_page
from backup.app.rebuilds.enrolling import proofs
from backup.config import Config
from backup.credentials.identity import permissions_warning
from backup.errors import InventoryNewerError, NightvaultError
from backup.inventory.store.invariants import first_damage
from backup.owners import Hazard, hazard_of_way, set_mode

_KEY = re.compile(
    rb"NVK1-[0-9A-Z]{4}-[0-9A-Z]{4}"  # as it is kept and shown
    rb"|NVK1\s+1:\s*[0-9A-Z]{4}\s+2:\s*[0-9A-Z]{4}"  # a sheet of `begin`, with numbered groups
    rb"|NVK1(?:\s+[0-9A-Z]{4}){14}",  # as it may be typed
    re.IGNORECASE,
)
_LARGEST, _MOST_FILES = 64 * 1024, 500
_LARGEST_INVENTORY = 256 * 1024**2
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def inventory_opens(context: DoctorContext) -> Iterator[Finding]:
    """Check that the inventory can be opened: it exists, is intact, and is of no later version."""
    try:
        opened(context.config).close()
    except InventoryNewerError as error:
        yield table.INVENTORY_NEWER.finding(error=error, advice=error.advice)
    except NightvaultError as error:
        yield table.INVENTORY_CLOSED.finding(error=error, advice=error.advice)


def inventory_whole(context: DoctorContext) -> Iterator[Finding]:
    """Check that the inventory's pages are intact; a large one only `inventory verify` checks."""
    path = context.config.inventory_url.removeprefix("sqlite:///")
    if not os.path.isfile(path) or os.path.getsize(path) > _LARGEST_INVENTORY:
        return
    try:
        with closing(opened(context.config)) as inventory, inventory.reading() as tx:
            damage = first_damage(tx)
    except InventoryNewerError:  # a finding of its own
        return
    if damage is not None:
        yield table.INVENTORY_DAMAGED.finding(path=path, damage=damage)


def modes(context: DoctorContext) -> Iterator[Finding]:
    """Find files with secrets that others may read."""
    state = State(context.config.state_dir)
    if not is_open_to_page(context.config):
        yield from _open_to_others(state.directory, 0o700, table.STATE_OPEN)
    for folder in (state.keys, os.path.join(state.directory, "identity")):
        yield from _open_to_others(folder, 0o700, table.KEY_OPEN)
        for name in _names(folder):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield from _open_to_others(path, 0o600, table.KEY_OPEN)
    identity = context.config.identity
    named = (identity.private_key, identity.passphrase_file) if identity is not None else ()
    for place in filter(None, named):
        if permissions_warning(place) is not None:  # a group may be meant to read it
            yield from _open_to_others(place, 0o600, table.KEY_OPEN)


def changed_by_others(context: DoctorContext) -> Iterator[Finding]:
    """Find a config, state directory, or configured program or file that others can change."""
    config = context.config
    hazard = config.hazard
    if hazard is not None:
        yield _of_others(table.CONFIG_OF_OTHERS, hazard, config.path)
    hazard = _hazard_of(config.state_dir)
    if hazard is not None:
        yield _of_others(table.STATE_OF_OTHERS, hazard, config.state_dir)
    for owner, program in sorted(set(_programs(config))):
        hazard = _hazard_of(program) if os.path.isabs(program) else None
        if hazard is not None:
            yield _of_others(table.PROGRAM_OF_OTHERS, hazard, program, who=owner)
    for place in filter(None, (config.recovery_file, config.monitoring.metrics_file)):
        hazard = _hazard_of(os.path.dirname(place))
        if hazard is not None:
            yield _of_others(table.FILE_OF_OTHERS, hazard, place)


def _of_others(row: table.FindingKind, hazard: Hazard, path: str, who: str = "") -> Finding:
    return row.finding(hazard=hazard.why, path=path, command=hazard.command, who=who)


def _programs(config: Config) -> Iterator[tuple[str, str]]:
    """Programs and libraries that run as the user who backs up: what each is for, and its path."""
    identity = config.identity
    if identity is not None and identity.pkcs11_module:
        yield "the use of the certificate", identity.pkcs11_module
    if identity is not None and identity.renew is not None and identity.renew.command:
        yield "the renewal of the certificate", identity.renew.command[0]
    for job in config.jobs:
        hooks = job.hooks
        for hook in (*hooks.before, *hooks.after, *hooks.on_failure, *hooks.finally_):
            yield f"job {job.name}", hook.run[0]
        for command in job.command:
            if command.user is None:
                yield f"job {job.name}", command.run[0]
        for database in job.database:
            for hook in (*database.hooks.before, *database.hooks.after):
                yield f"job {job.name}", hook.run[0]


def _hazard_of(path: str) -> Hazard | None:
    try:
        return hazard_of_way(path)
    except OSError:
        return None


def _open_to_others(path: str, mode: int, row: table.FindingKind) -> Iterator[Finding]:
    try:
        found = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return
    if found & _OTHERS:
        yield row.finding(path=path, found=found, mode=mode, fix=_chmod(path, mode))


def _chmod(path: str, mode: int) -> Callable[[], str]:
    def fix() -> str:
        set_mode(path, mode)
        return f"{path} has mode {mode:04o}"

    return fix


def recovery_key_here(context: DoctorContext) -> Iterator[Finding]:
    """Find a recovery key that this server can read: it is for the day when the server is lost or stolen.

    Small files in `key_places` are searched for a key file, and for the sheet that `begin` writes beside it.
    """
    for path in dict.fromkeys(path for place in key_places(context.config) for path in _small_files(place)):
        with suppress(OSError), open(path, "rb") as file:
            if _KEY.search(file.read(_LARGEST)):
                yield table.RECOVERY_KEY_HERE.finding(path=path)


def key_places(config: Config) -> tuple[str, ...]:
    """Return the directories to search: the config's, the state directory, the home, the current one."""
    places = [os.path.dirname(config.path), config.state_dir, os.path.expanduser("~")]
    with suppress(FileNotFoundError):  # the current one was removed
        places.append(os.getcwd())
    return tuple(places)


def _small_files(folder: str) -> Iterator[str]:
    """The first small files of a folder; the folders in it are not touched: one may be a dead mount."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name)[:_MOST_FILES]:
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False) and 0 < entry.stat().st_size <= _LARGEST:
                    yield entry.path


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def enrolment(context: DoctorContext) -> Iterator[Finding]:
    """Find recipients whose recovery key has not enrolled this server.

    A missing proof of the inventory's ancestors is a note, no finding: nothing waits for it.
    """
    lost = _lost_keys(context)
    if lost is not None:
        yield table.KEYS_LOST.finding(error=lost, advice=lost.advice)
        return
    recipients = parse_recipients(recipients_of(context.config))
    enrolled = State(context.config.state_dir).read_enrolments()
    for recipient in recipients:
        if recipient.id not in enrolled:
            yield table.NOT_ENROLLED.finding(recipient=recipient.id.hex())
    if recipients and context.status is not None and not _proves_ancestors(context.config):
        context.notes.append(
            "no enrolment proves from which inventory this one was rebuilt: run `nightvault key request` "
            "here, `nightvault key enroll` where the recovery key is, and `nightvault key accept` here"
        )
    if not recipients and context.status is not None:  # without an inventory `init` or `rebuild` is next
        yield table.NO_RECIPIENT.finding()


def _lost_keys(context: DoctorContext) -> NightvaultError | None:
    """Our error if an inventory is there, and the keys that it was made with are gone or others."""
    if context.status is None:
        return None
    state = State(context.config.state_dir)
    try:
        with closing(opened(context.config)) as inventory:
            read_signer(state, inventory)
        state.read_secret()
    except NightvaultError as error:
        return error
    return None


def _proves_ancestors(config: Config) -> bool:
    """Whether a recovery key signed from which inventories this one was rebuilt, or there are none."""
    with closing(opened(config)) as inventory:
        return not inventory.ancestors or bool(proofs(config, inventory))


def recovery_lines(context: DoctorContext) -> Iterator[Finding]:
    """Check that the recovery lines are kept in a second place."""
    if context.config.recovery_file is None:
        yield table.RECOVERY_LINES_HERE.finding(config=context.config.path)
