"""Failures that several parts raise or catch: exit code, whether a retry may help, advice for the user.

The rules:

1. What can fail for a reason that a user can understand is raised as one of these, where the reason is known.
   Anything else that is raised is a mistake in this program, and is reported as one.
2. The message says what failed, and on what: a path, a key of the config, an archive. No name of a class or a
   function; no full stop at its end; it is read after "nightvault: ". Texts of others (a vault, a library)
   come behind a colon.
3. `advice` says what to do, if there is something: a command, a key of the config, a page. If the class
   always has the same, it is its default.
4. The cause is kept (`raise … from error`), and shown with --verbose. Nothing secret is in either.
5. A class of its own needs a reason: an exit code that scripts decide by, a caller that catches just this, or
   an advice that is always the same. Otherwise take the nearest one. A class that only one package raises and
   catches is defined there; if it may reach a user, it is a subclass of one of these.
6. `retryable` says only that the same request may succeed later; who repeats it is `transfer/retry.py`.
7. Errors are caught where something can be done: another file, another vault, the next job. They are printed
   in the command line (`cli/support/failures.py`) and by the daemon, and nowhere else.
8. The exit codes are an interface: a number never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit code of the process; the numbers never change their meaning."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    NO_INVENTORY = 10
    LOCKED = 11
    RECOVERY_KEY = 12
    IDENTITY = 13
    DENIED = 14
    AWAY = 15
    LIMIT = 16
    WAITING = 17
    BEGINS_ANEW = 75
    INTERRUPTED = 130


class NightvaultError(Exception):
    """The base of all our errors: `str(error)` says what failed and on what; `advice` what to do."""

    exit_code = ExitCode.FAILED
    retryable = False
    advice = ""

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        if advice:
            self.advice = advice

    @property
    def kind(self) -> str:
        """A stable word for scripts: that of `NoInventoryError` is "no-inventory"."""
        name = type(self).__name__.removesuffix("Error")
        return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


def failure_report(error: NightvaultError) -> dict[str, str | int]:
    """The report of a run that ended by an error; the keys are part of the JSON interface."""
    return {"error": str(error), "advice": error.advice, "exit_code": int(error.exit_code)}


# The user's side: arguments, files, keys.


class UsageError(NightvaultError):
    """The options and arguments of a command cannot be used, or not together."""

    exit_code = ExitCode.USAGE


class ConfigError(NightvaultError):
    """A value in config.toml, named by its key, cannot be used."""

    exit_code = ExitCode.USAGE


class NoInventoryError(NightvaultError):
    """There is no inventory at the configured place."""

    exit_code = ExitCode.NO_INVENTORY
    advice = (
        "if it was here and is lost, do not run `nightvault init`: `nightvault rebuild --key FILE` brings it "
        "back from the vault (docs/server-gone.md). Only on a new server: run `nightvault init`"
    )


class StateDeniedError(NightvaultError):
    """The state directory, or what lies in it, may not be read or written by this user."""

    advice = "run it as the user that ran `nightvault init` (root, as a rule: sudo), or give that right"


class OccupiedVaultError(NightvaultError):
    """A vault holds backups, but there is no inventory here that knows of them."""


class InventoryDamagedError(NightvaultError):
    """The inventory is there but cannot be trusted or used."""


class InventoryNewerError(NightvaultError):
    """The inventory has the schema of a later version of this program."""


class InventoryMovedError(NightvaultError):
    """The inventory was moved or replaced while a process had it open."""

    advice = "run the command again: it opens what is there now; what was stored is not stored again"


class LockedError(NightvaultError):
    """Another process holds a lock that this step needs alone."""

    exit_code = ExitCode.LOCKED
    advice = "wait until it has finished; the lock ends with the process that holds it"


class InventoryOpeningError(LockedError):
    """The inventory is just being opened or closed by its writer: a process that only reads has to wait."""

    advice = "try again in a moment"


class DaemonAwayError(NightvaultError):
    """The daemon does not answer on its socket."""

    exit_code = ExitCode.AWAY


class ClockError(NightvaultError):
    """The clocks of this machine and the vault differ: nothing can safely be called old."""


class RecoveryKeyError(NightvaultError):
    """The recovery key is missing, damaged or not the one that opens this."""

    exit_code = ExitCode.RECOVERY_KEY


class IdentityError(NightvaultError):
    """The certificate, its chain or its private key cannot be used."""

    exit_code = ExitCode.IDENTITY


class LimitRefusedError(NightvaultError):
    """A limit that the user set forbids this (cost, space)."""

    exit_code = ExitCode.LIMIT


class MonthSpentError(LimitRefusedError):
    """The money that may be spent in this month is spent: the work goes on in the next."""


class InterruptedRunError(NightvaultError):
    """The user or the system asked us to stop."""

    exit_code = ExitCode.INTERRUPTED


@contextmanager
def as_stopped(stop: Callable[[], bool]) -> Iterator[None]:
    """Turn errors of work that was asked to stop into `InterruptedRunError`: it did not fail.

    A vault that does not answer ends its request long after, by a timeout.
    """
    try:
        yield
    except (InterruptedRunError, LockedError):
        raise
    except NightvaultError as error:
        if not stop():
            raise
        raise InterruptedRunError(f"stopped on request; meanwhile: {error}") from error


# Bytes that are not what they should be.


class FormatError(NightvaultError):
    """Bytes are not a pack, catalog or key of ours, or they were changed."""


class NewerFormatError(FormatError):
    """A later version of nightvault wrote these bytes, with features that this one does not know."""

    advice = "a newer nightvault wrote it: install that version or a later one"


class IntegrityError(NightvaultError):
    """Bytes that were read differ from those that were recorded."""


class ProofError(NightvaultError):
    """A pack that was read back from the spool does not hold what was written; it was discarded."""


# The machine: sources, spool, target.


class SourceError(NightvaultError):
    """A source, or something in it, cannot be read."""

    exit_code = ExitCode.PARTIAL


class NoSourceError(SourceError):
    """None of a job's sources exists: no snapshot is made of nothing."""

    exit_code = ExitCode.FAILED


class HookError(NightvaultError):
    """A user's command around a run failed, or took too long."""

    advice = "mend the command: the message has its last lines, the log has all of them (docs/files.md)"


class WorkerGoneError(NightvaultError):
    """A worker process is gone. The caller does its work itself, so no user sees this error."""


class SpoolError(NightvaultError):
    """The spool directory cannot be written: usually a full disk."""

    advice = (
        "free some space below the state directory (or raise the limit of file sizes, ulimit -f), then run "
        "the backup again: nothing is lost"
    )


class TargetError(NightvaultError):
    """The restore target cannot be written."""


class TargetFullError(TargetError):
    """There is no room at the restore target."""

    exit_code = ExitCode.LIMIT


@contextmanager
def writing_to(target: str) -> Iterator[None]:
    """Raise what the system refuses as `TargetError`, which names the target."""
    try:
        yield
    except OSError as error:
        raise TargetError(f"{target} cannot be written: {error.strerror}") from error


# The vault's side: AWS, a directory, the network.


class VaultError(NightvaultError):
    """The vault refused or failed."""


class VaultMissingError(VaultError):
    """The vault is not there (any more)."""


class UnmarkedVaultError(VaultError):
    """The vault's marker is missing or damaged, and archives are there."""


class OtherVaultError(VaultError):
    """The vault at this address is not the one that the inventory knows."""


class OlderInventoryError(NightvaultError):
    """The vault holds catalogs of this inventory that it does not know: it is an old copy."""


class HeirError(OlderInventoryError):
    """Another inventory, proven by the recovery key, was rebuilt from this one and goes on with its jobs."""


class ArchiveMissingError(VaultError):
    """The vault has no such archive."""


class ArchiveUnreadableError(VaultError):
    """The vault has the archive, but cannot read all of it; other archives are not affected."""


class ArchiveShortError(ArchiveUnreadableError):
    """The vault has less of the archive than was asked for."""


class PackUnreadableError(VaultError):
    """A pack that is copied cannot be read where it lies, or is not what was stored there."""


class ArchiveTakenError(VaultError):
    """An object that is not ours has the key of this archive in the vault."""


class UploadExpiredError(VaultError):
    """The vault has forgotten this upload: begin anew."""


class RetrievalExpiredError(VaultError):
    """The output of this retrieval is gone: request it again."""


class RetrievalNotReadyError(VaultError):
    """The output of this retrieval is not there yet."""

    exit_code = ExitCode.WAITING


class CapacityError(VaultError):
    """The vault cannot serve a retrieval of this tier now: no capacity, or a policy of the account."""


class DeniedError(NightvaultError):
    """AWS denied the request."""

    exit_code = ExitCode.DENIED


class UnreachableError(NightvaultError):
    """The service or the network is away: a retry may help."""

    exit_code = ExitCode.AWAY
    retryable = True


class ThrottledError(UnreachableError):
    """The service asks us to slow down."""
