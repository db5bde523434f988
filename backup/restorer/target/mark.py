"""A mark in the target of an open restore, by which whoever goes on with it knows the place again.

The command that begins or resumes a restore leaves it there. A daemon may live in a mount namespace of its
own, where `/tmp` is another, or may have been started before a disk was mounted: what it would write there,
nobody would find. So it writes to a target that bears the mark and to no other. Where files were written
before and nothing is there any more, a person's own command stops, too.
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
    """The mark of one restore, which nobody can make who has not the server's chunk secret."""

    def __init__(self, restore_id: str, secret: ChunkSecret) -> None:
        self._name = name_of(restore_id)
        token = derive(secret.secret, f"restore mark {restore_id}", length=16).hex()
        self._text = f"nightvault restore {restore_id} goes on here: {token}\n".encode()

    def is_in(self, directory: int) -> bool:
        """Whether an open directory bears it."""
        return hmac.compare_digest(_read(self._name, directory).removesuffix(_MADE), self._text)

    def leave(self, directory: int, *, made: bool = False) -> None:
        """Put it into an open directory, for us alone to read; `made`: that was not there before.

        Nothing happens where we may not: an ordinary user restores in place below a `/` that is not his.
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
        """Take it away for a restore's end, which may lock the directory; back if that fails."""
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
    """The name of the mark in a target."""
    return f".nightvault-restore-{restore_id}".encode()


def remove_mark(name: bytes, directory: int) -> bool:
    """Take a mark away, so that the directory looks as it did; whether that was made for the restore."""
    found, made = os.fstat(directory), _read(name, directory).endswith(_MADE)
    with suppress(OSError):
        os.unlink(name, dir_fd=directory)
        os.utime(directory, ns=(found.st_atime_ns, found.st_mtime_ns))
    return made


def _read(name: bytes, directory: int) -> bytes:
    """What a mark of that name says; nothing if it is none."""
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


def leave_mark(restore: Restore, context: RestoreContext) -> None:
    """Make and mark the target of a restore that somebody began or resumes.

    A target that cannot be made is told of by what is to be written there.
    """
    with context.inventory.reading() as tx:
        before = read_progress(tx, restore.number)
    if before is not None:
        _require_something(restore, before)
    made = not os.path.isdir(restore.target)
    with suppress(TargetError), closing(Target(os.fsdecode(restore.target))) as target:
        Mark(restore.id, context.secret).leave(target.handle(b""), made=made)


def require_mark(restore: Restore, context: RestoreContext) -> None:
    """`TargetError` unless this process sees the target that was marked, and may write there."""
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
    """Whether the target as this process sees it bears the mark."""
    try:
        handle = os.open(restore.target, _ENTER)
    except OSError:
        return False
    try:
        return Mark(restore.id, secret).is_in(handle)
    finally:
        os.close(handle)


def enter(restore: Restore, context: RestoreContext, *, replaces: bool) -> Target:
    """The target of a restore. `TargetError` where nobody attends and it is not the one that was marked."""
    if context.unattended:
        require_mark(restore, context)
    target = Target(os.fsdecode(restore.target), replaces=replaces)
    if context.unattended and not Mark(restore.id, context.secret).is_in(target.handle(b"")):
        target.close()  # it was exchanged since we looked
        raise _refused(restore, f"{target.path} does not bear its mark any more")
    return target


def _require_something(restore: Restore, before: RestoreState) -> None:
    """`TargetError` if files were written there, and are no more: a disk that is not mounted, say."""
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
    """What is told of a restore whose target does not bear its mark, as this process sees it."""
    shown = os.fsdecode(restore.target)
    return _refused(restore, f"{shown}, as seen from here, does not bear its mark: is it another place?")


def _refused(restore: Restore, why: str) -> TargetError:
    return TargetError(
        f"restore {restore.id} is not gone on with unattended: {why}",
        advice=f"as the user that began it: `nightvault restore resume {restore.id} --wait`",
    )
