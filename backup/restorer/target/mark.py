"""A mark file in the target of an open restore, by which an unattended process recognises the target.

The command that begins or resumes a restore writes it. A daemon may run in a mount namespace of its own,
where `/tmp` is another directory, or may have started before a disk was mounted: what it writes there would
be lost. So it writes only to a target with the mark. A user's own command stops too if files were written
to the target before and nothing is there any more.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from backup.errors import TargetError
from backup.files import create_durably, sync_directory
from backup.format.keys import ChunkSecret, derive
from backup.inventory.restore_state import RestoreState, read_progress
from backup.inventory.retrievals import Restore
from backup.restorer.context import RestoreContext
from backup.restorer.target.directories import Target

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST = 256  # bytes
_MADE = b"it was made for that, and goes if it is given up\n"


class Mark:
    """The mark of one restore; only a holder of the server's chunk secret can forge it."""

    def __init__(self, restore_id: str, secret: ChunkSecret) -> None:
        self._name = name_of(restore_id)
        token = derive(secret.secret, f"restore mark {restore_id}", length=16).hex()
        self._text = f"nightvault restore {restore_id} goes on here: {token}\n".encode()

    def is_in(self, directory: int) -> bool:
        """Whether an open directory contains the mark."""
        return hmac.compare_digest(_read(self._name, directory).removesuffix(_MADE), self._text)

    def leave(self, directory: int, *, made: bool = False) -> None:
        """Write the mark into an open directory, readable for us alone; `made`: we created the directory.

        Nothing happens without permission: an ordinary user restores in place below a `/` that is not theirs.
        """
        if self.is_in(directory):
            return
        before = os.fstat(directory)
        with suppress(OSError):
            create_durably(self._name, self._text + _MADE * made, dir_fd=directory)
            os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
            sync_directory(directory)

    @contextmanager
    def lifted(self, directory: int) -> Iterator[None]:
        """Remove the mark for a restore's end, which may lock the directory; restore it on failure."""
        if not self.is_in(directory):
            yield
            return
        made = remove_mark(self._name, directory)
        try:
            yield
        except BaseException:
            self.leave(directory, made=made)
            raise


def name_of(restore_id: str) -> bytes:
    """The file name of the mark."""
    return f".nightvault-restore-{restore_id}".encode()


def remove_mark(name: bytes, directory: int) -> bool:
    """Remove a mark; returns whether the directory was created for the restore."""
    found, made = os.fstat(directory), _read(name, directory).endswith(_MADE)
    with suppress(OSError):
        os.unlink(name, dir_fd=directory)
        os.utime(directory, ns=(found.st_atime_ns, found.st_mtime_ns))
    return made


def _read(name: bytes, directory: int) -> bytes:
    """The content of the mark file; empty if there is none."""
    try:
        handle = os.open(name, _LOOK, dir_fd=directory)
    except OSError:
        return b""
    try:
        return os.read(handle, _MOST) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(handle)


@contextmanager
def made_target(path: str) -> Iterator[bool]:
    """Make the target of a new restore before anything is recorded; whether it was missing.

    `TargetError` where it cannot be used. After any error the directories made for it go again if they are
    empty; a process that is killed leaves them, and the same command goes on with them.
    """
    missing: list[str] = []
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        missing.append(place)
        place = os.path.dirname(place)
    try:
        Target(path).close()
        yield bool(missing)
    except BaseException:
        for each in missing:
            with suppress(OSError):
                os.rmdir(each)
        raise


def leave_mark(restore: Restore, context: RestoreContext, *, made: bool = False) -> None:
    """Create and mark the target of a restore that a user begins or resumes; `made`: it was just made for it.

    A target that cannot be created any more is reported later, by the code that writes there.
    """
    with context.inventory.reading() as tx:
        before = read_progress(tx, restore.number)
    if before is not None:
        _require_something(restore, before)
    made = made or not os.path.isdir(restore.target)
    with suppress(TargetError), closing(Target(os.fsdecode(restore.target))) as target:
        Mark(restore.id, context.secret).leave(target.handle(b""), made=made)


def require_mark(restore: Restore, context: RestoreContext) -> None:
    """`TargetError` unless this process sees the marked target and may write there."""
    shown = os.fsdecode(restore.target)
    try:
        handle = os.open(restore.target, _ENTER)
    except OSError as error:
        raise _refused(restore, f"{shown} cannot be entered from here: {error.strerror}") from error
    try:
        if not Mark(restore.id, context.secret).is_in(handle):
            raise unmarked(restore)
        if not os.access(".", os.W_OK, dir_fd=handle, effective_ids=True):
            raise _refused(restore, f"{shown} cannot be written from here")
    finally:
        os.close(handle)


def bears_mark(restore: Restore, secret: ChunkSecret) -> bool:
    """Whether the target, as this process sees it, contains the mark."""
    try:
        handle = os.open(restore.target, _ENTER)
    except OSError:
        return False
    try:
        return Mark(restore.id, secret).is_in(handle)
    finally:
        os.close(handle)


def enter(restore: Restore, context: RestoreContext, *, replaces: bool) -> Target:
    """The target of a restore. `TargetError` if the run is unattended and the mark is missing."""
    if context.unattended:
        require_mark(restore, context)
    target = Target(os.fsdecode(restore.target), replaces=replaces)
    if context.unattended and not Mark(restore.id, context.secret).is_in(target.handle(b"")):
        target.close()  # it was replaced since the check
        raise _refused(restore, f"{target.path} does not bear its mark any more")
    return target


def _require_something(restore: Restore, before: RestoreState) -> None:
    """`TargetError` if files were written there and are gone: an unmounted disk, for example."""
    if not before.files:
        return
    with suppress(OSError), os.scandir(restore.target) as found:
        if next(found, None) is not None:
            return
    raise TargetError(
        f"restore {restore.id} wrote {before.files} files below {os.fsdecode(restore.target)}, and now "
        "nothing is there",
        advice="mount what was mounted there, or give it up with `nightvault restore cancel "
        f"{restore.id}` and begin anew",
    )


def unmarked(restore: Restore) -> TargetError:
    """The error message for a restore whose target does not contain its mark."""
    shown = os.fsdecode(restore.target)
    return _refused(restore, f"{shown}, as seen from here, does not bear its mark: is it another place?")


def _refused(restore: Restore, why: str) -> TargetError:
    return TargetError(
        f"restore {restore.id} is not gone on with unattended: {why}",
        advice=f"as the user that began it: `nightvault restore resume {restore.id} --wait`",
    )
