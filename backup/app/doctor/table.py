"""All kinds of findings in one table: code, level, text, why it matters, and what to do.

In the texts {names} stand for the values found. Concerns of `status` bring their own level and text; why they
matter is here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct

from backup.app.doctor.finding import Finding
from backup.app.status.parts import Level, Topic


class FindingKind(Struct, frozen=True):
    """A kind of finding: `check` is its code, `what`, `why` and `do` are texts with {names}."""

    check: str
    level: Level
    what: str
    why: str
    do: str

    def finding(
        self, *, advice: str | None = None, fix: Callable[[], str] | None = None, **values: object
    ) -> Finding:
        """Make a finding of this kind; the `advice` of an error replaces what to do."""
        what, why, do = (text.format(**values) for text in (self.what, self.why, self.do))
        return Finding(self.check, self.level, what, why, advice or do, fix)


def _row(level: Level, check: str, what: str, *, why: str, do: str) -> FindingKind:
    return FindingKind(check, level, what, why, do)


_critical = partial(_row, Level.CRITICAL)  # data may be lost, or read by others, if it is not mended
_warning = partial(_row, Level.WARNING)  # to be mended soon

# Any check.
MOUNT_SILENT = _critical(
    "mount",
    "{place} does not answer",
    why="nothing there can be backed up, stored or restored, and who looks at it may hang",
    do="mount it again, or find out what became of it",
)
CHECK_FAILED = _warning(
    "check",
    "cannot look at {place}: {error}",
    why="nobody knows whether it is as it should be",
    do="nightvault status",
)

# This machine: `machine.py`.
INVENTORY_NEWER = _critical(
    "schema",
    "{error}",
    why="this version would misread it: until then nothing can be backed up or restored",
    do="",
)
INVENTORY_CLOSED = _critical(
    "inventory",
    "{error}",
    why="without it nothing can be backed up or restored",
    do="nightvault inventory verify",
)
INVENTORY_DAMAGED = _critical(
    "inventory",
    "the inventory {path} is damaged: {damage}",
    why="a backup that builds upon it may be of no use",
    do="bring it back from a copy of `nightvault inventory backup`, or rebuild it (docs/server-gone.md)",
)
_OPEN = "{path} is open to others (mode {found:04o})"
STATE_OPEN = _critical(
    "mode", _OPEN, why="whoever reads it sees the names of all files", do="chmod {mode:03o} {path}"
)
KEY_OPEN = _critical(
    "mode", _OPEN, why="whoever reads it can pretend to be this server", do="chmod {mode:03o} {path}"
)
CONFIG_OF_OTHERS = _critical(
    "config",
    "{hazard}: others can change {path}",
    why="what others write into it is done: what is backed up, where to, and which hooks are run",
    do="{command}",
)
STATE_OF_OTHERS = _critical(
    "state",
    "{hazard}: others can change {path}",
    why="others can put keys and an inventory of their own in the place of this server's",
    do="{command}",
)
PROGRAM_OF_OTHERS = _critical(
    "program",
    "{hazard}: others can change {path}, which {who} runs",
    why="whoever changes it has it run as this user",
    do="{command}",
)
FILE_OF_OTHERS = _warning(
    "place",
    "{hazard}: others can change {path}",
    why="they can replace it, or keep runs from writing it",
    do="{command}",
)
RECOVERY_KEY_HERE = _critical(
    "recovery-key",
    "{path} holds a recovery key",
    why="whoever takes over the server can read every backup; with the disk the key is gone",
    do="move {path} to another machine",
)
KEYS_LOST = _critical("keys", "{error}", why="without its own keys this server can back up nothing", do="")
NOT_ENROLLED = _warning(
    "enrolment",
    "the recovery key of {recipient} has not enrolled this server",
    why="a rebuild with that key alone could not tell this server's catalogs from forged ones",
    do="nightvault key request",
)
NO_RECIPIENT = _critical(
    "enrolment",
    "there is no recipient",
    why="nothing can be sealed, so nothing is backed up",
    do="nightvault key generate --out FILE elsewhere, and name its recipient in [encryption] here",
)
RECOVERY_LINES_HERE = _warning(
    "recovery-lines",
    "the recovery lines are kept in the state directory alone",
    why="with them a bare machine finds the newest state at once; they are lost with this disk",
    do="set recovery_file in [state] of {config}, to a place on another machine",
)

# What is backed up and kept: `jobs.py`.
NO_JOB = _warning("jobs", "the config has no job", why="nothing is backed up", do="add [[job]] to {config}")
NO_POLICY = _warning(
    "retention",
    "job {job} has no policy: each of its snapshots is kept for ever",
    why="the vault only grows, and so does its price",
    do="add [job.retention] to the job in {config}",
)
OWN_IN_SOURCE = _warning(
    "source",
    "{text}",
    why="what a run stores is stored again by the next one",
    do="set exclude_own in {config}",
)
OWN_AS_SOURCE = _warning(
    "source",
    "{text}",
    why="the vault grows by it each night, and nothing of it helps after a loss",
    do="change sources in {config}",
)
SOURCE_LINKED = _warning(
    "source",
    "{text}",
    why="whoever moved the data, and left a symlink, has no backup of it from then on",
    do="change sources in {config}",
)
SOURCE_MISSING = _warning(
    "source",
    "job {job}: the source {path} does not exist",
    why="it may have been renamed, or its disk is not mounted: it is not backed up",
    do="change sources in {config}, or mount it",
)
PLACES_NESTED = _warning(
    "places",
    "{text}",
    why="a vault is all that is left when the state is lost, or another vault",
    do="change the paths in {config}",
)
PRECIOUS_LEFT_OUT = _warning(
    "left-out",
    "job {job} leaves out {path}: {detail}",
    why="keys, passwords and mail are seldom anywhere else",
    do="change exclude in {config}, if it should be saved",
)
DATABASE_LIVE = _warning(
    "database",
    "job {job} reads the files of {kind} in {path} while they may change",
    why="a copy of files that change while they are read may not start again",
    do="add a [[job.command]] with {tool}, or hooks that stop it or make a snapshot",
)
VOLUME_UNREAD = _warning(
    "container",
    "container {container} runs, and no job reads its {what}",
    why="what it writes there is in no backup",
    do="name it in `volumes` of [job.containers], or by a label: nightvault.volumes=true",
)
LABEL_UNKNOWN = _warning(
    "container",
    "container {container} has the label {label}, which asks for a dump that no job makes",
    why="files of a database that are copied while they change may not start again",
    do='write a [[job.database]] with container = "{container}"',
)

# What was done, and when: `history.py`.
NEVER_RUN = _warning(
    "never-run",
    "job {job} was never backed up",
    why="there is nothing yet to restore its files from",
    do="nightvault backup {job}",
)
NEVER_READ = _warning(
    "never-read",
    "vault {vault}: nothing was ever read back of what was stored by {since:%Y-%m-%d}",
    why="that an archive is listed does not prove that it can be opened",
    do="nightvault check --vault {vault} --read-data 1%",
)
_UNCHECKED = partial(
    _warning,
    "unchecked",
    why="nobody knows whether the archives are still there",
    do="nightvault check --vault {vault}",
)
NEVER_CHECKED = _UNCHECKED("vault {vault} was never checked")
LONG_UNCHECKED = _UNCHECKED("vault {vault} was last checked on {since:%Y-%m-%d}")
_UNDRILLED = partial(
    _warning,
    "rebuild-drill",
    why="it needs the recovery key, the vault's list and all catalogs: each may be missing unnoticed",
    do="nightvault rebuild --dry-run --vault {vault} --key FILE",
)
NEVER_REBUILT = _UNDRILLED("vault {vault}: nobody ever tried whether this server could be rebuilt from it")
LONG_NOT_REBUILT = _UNDRILLED(
    "vault {vault}: whether this server could be rebuilt from it was last tried on {last:%Y-%m-%d}"
)
_DRILL = partial(_warning, "drill", why="whether a restore works shows first when one is needed")
NO_DRILL = _DRILL("restores are not rehearsed: the config has no [[drill]]", do="nightvault drills")
DATABASE_NEVER_LOADED = _DRILL(
    "job {job} has dumps of {databases}, and no drill has ever loaded them",
    do="a [[drill]] with load = true, and then: nightvault drill run NAME --key FILE",
)
DATABASE_LOADED_LONG_AGO = _DRILL(
    "job {job} has dumps of {databases}, which a drill loaded last before {last:%Y-%m-%d}",
    do="nightvault drill run NAME --key FILE",
)
DRILL_NEVER_DONE = _DRILL("drill {drill} never ended well", do="nightvault drill run {drill}")
DRILL_LONG_AGO = _DRILL("drill {drill} ended well last on {last:%Y-%m-%d}", do="nightvault drill run {drill}")
CENTER_UNTOLD = _warning(
    "center",
    "the center {url} {since}",
    why="it shows this server as silent, or not at all",
    do="nightvault center tell",
)
UNUSUAL = _warning(
    "unusual",
    "job {job}: the last backup (run {run}) was {text}",
    why="a source may have been emptied, moved, or encrypted by somebody else",
    do="nightvault diff --job {job} latest~1 latest",
)
RUN_WARNED = _warning(
    "warnings",
    "the last {kind} of job {job} (run {run}) warned: {texts}",
    why="what was saved or restored may not be all that was meant",
    do="nightvault runs --job {job}",
)

# How all would come back: `recovery.py`.
RESTORE_REFUSED = _warning(
    "restore-cost",
    "a full restore of job {job} ({tier}) {costs}, and max_restore_cost is {limit}",
    why="it would be refused (exit code 16) on the day when you need it",
    do="raise max_restore_cost in [restore] of {config}, or give --max-cost then",
)
RESTORE_SLOW = _warning(
    "restore-time",
    "a full restore of job {job} takes {time} at its limit of {speed}",
    why="the server is without its data for so long",
    do="raise download_limit of vault {vault} in {config}, if the link is faster",
)
KEY_OPENS_NOTHING = _critical(
    "key",
    "the recovery key does not open the newest catalog of job {job}: {error}",
    why="if this server is lost, nothing comes back without a key that does",
    do="look for the key of a recipient that `nightvault key status` shows, and give it with --key",
)
CATALOG_UNREADABLE = _critical(
    "key",
    "cannot {doing}: {error}",
    why="a rebuild would have to do with an older state, if there is one",
    do="nightvault check --vault {vault}",
)

# Vaults: `vaults.py`.
NO_CREDENTIALS = _critical(
    "credentials",
    "{role}: {error}",
    why="{work} of vault {vault} fail until it does",
    do="nightvault identity show",
)
VAULT_AWAY = _critical(
    "vault", "{what}", why="nothing can be stored in it, or restored from it", do="nightvault vaults"
)
VAULT_MISSING = _critical(
    "vault", "{what}", why="nothing can be stored in it, or restored from it", do="{command}"
)
CLOCK_OFF = _critical(
    "clock",
    "this machine's clock and that of vault {vault} differ by {apart}",
    why="AWS refuses signatures that are five minutes off, and prunes stop{stepped}",
    do="timedatectl set-ntp true",
)
OTHER_VAULT = _critical(
    "identity",
    "{error}",
    why="another disk is mounted, or the vault was deleted and made anew: backups stop",
    do="",
)
VAULT_LOCK = _warning(
    "vault-lock",
    "vault {vault}: {text}",
    why="prunes delete nothing sooner, and what lies in the vault is billed until then",
    do="aws glacier get-vault-lock --account-id - --vault-name {name}",
)
BUCKET_SETTING = _warning(
    "bucket",
    "vault {vault}: {text}",
    why="what lies in the bucket may be frozen, deleted or kept against your intention",
    do="nightvault config check",
)

# Roles: `rights.py`.
WORK_DENIED = _critical(
    "work",
    "vault {vault}: {who} are denied {action}{role}",
    why="{who} fail until that is allowed",
    do="{allowing}",
)
_DELETES = partial(_critical, "role", why="whoever takes over the server can delete every backup")
ONE_ROLE = _DELETES(
    "vault {vault}: backups and prunes have the same role, {role}",
    do="give prunes a role of their own (docs/aws.md)",
)
MAY_DELETE = _DELETES(
    "vault {vault}: the role of {who} may delete ({action})",
    do="take deletions out of the role's policy: {allowing}",
)

WHY: Mapping[Topic, str] = {
    Topic.OVERDUE: "what has changed since the last good backup is nowhere else",
    Topic.RUN: "what it was to do is not done",
    Topic.CLOCK: "schedules, retention and AWS's signatures go by the clock",
    Topic.DAEMON: "nothing begins backups, prunes and checks",
    Topic.CERTIFICATE: "without a valid certificate AWS gives no credentials, and no backup is stored",
    Topic.LOCK: "no backup can begin while the lock is held",
    Topic.RESTORE: "what was retrieved expires, and is paid for again",
    Topic.DISK: "a backup that finds no space fails",
    Topic.COST: "more is stored than was meant to be paid for",
    Topic.CHECK: "nobody knows whether the archives are still there and whole",
    Topic.VAULT: "what has changed since the last good backup is nowhere else",
    Topic.PROTECTION: "whoever takes this server over may delete what is not locked",
    Topic.SHRUNK: "a disk may be away, or somebody deleted what is needed; old snapshots pile up meanwhile",
    Topic.AWAY: "no backup can be stored in it, and nothing be restored from it",
    Topic.UNKNOWN: "what cannot be looked at is not known to be well",
    Topic.MESSAGES: "nobody is told when a backup fails",
}
