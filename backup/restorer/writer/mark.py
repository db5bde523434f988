"""The target of a restore: recorded when it begins, marked by a file, and verified by both when opened again.

The target's path is resolved once, and the directory that it leads to is recorded (`RestoreTarget`). Each
later session walks the real path without following any symlink, and continues only if it finds that
directory: while a restore waits for hours, the owner of a directory on the way may put another in its place.

The mark file is for unattended processes; the command that begins or resumes a restore writes it. A daemon
may run in a mount namespace of its own, where `/tmp` is another directory, or may have started before a disk
was mounted: what it writes there would be lost. So it writes only to a target with the mark. A user's own
command stops too if files were written to the target before and nothing is there any more.
"""

from __future__ import annotations

import errno
import hmac
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from backup.errors import TargetError
from backup.files import create_durably, sync_directory
from backup.format.keys import ChunkSecret, derive
from backup.inventory.records.restore_state import RestoreTarget, note_place, read_progress
from backup.inventory.records.retrievals import Restore
from backup.inventory.store.database import Inventory
from backup.restorer.context import RestoreContext
from backup.restorer.writer.directories import Target, target_errors, way_to
from backup.safe_paths import Way, open_plain

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST = 256  # bytes
ELSEWHERE = (
    "while the restore ran it was moved, or something else took its place: what was restored lies elsewhere"
)
_MADE = b"it was made for that, and goes if it is given up\n"


class MarkFile:
    """The mark file of one restore; only a holder of the server's chunk secret can forge it."""

    def __init__(self, restore_id: str, secret: ChunkSecret) -> None:
        self._name = name_of(restore_id)
        token = derive(secret.secret, f"restore mark {restore_id}", length=16).hex()
        self._text = f"nightvault restore {restore_id} goes on here: {token}\n".encode()

    def is_in(self, directory: int) -> bool:
        """Whether an open directory has the mark file."""
        return hmac.compare_digest(_read(self._name, directory).removesuffix(_MADE), self._text)

    def leave(self, directory: int, *, made: bool = False) -> None:
        """Write the mark file into an open directory, readable only for us; `made`: we created the directory.

        It is skipped without permission, as when an ordinary user restores in place below `/`.
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
        """A context manager that removes the mark file at a restore's end, and puts it back on failure."""
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
    """Return the name of the mark file."""
    return f".nightvault-restore-{restore_id}".encode()


def remove_mark(name: bytes, directory: int) -> bool:
    """Remove a mark file; returns whether the directory was created for the restore."""
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
def made_target(way: Way) -> Iterator[bool]:
    """A context manager that creates the target of a new restore; it yields whether it was missing.

    `TargetError` where it cannot be used. After any error the directories made for it go again if they are
    empty; a process that is killed leaves them, and the same command goes on with them.
    """
    try:
        with target_errors(way.path):
            made = way.make()
            os.close(way.open())
        yield made
    except BaseException:
        way.unmake()
        raise


def place_of(handle: int, path: str) -> RestoreTarget:
    """Return the record of an open directory with this real `path`."""
    found = os.fstat(handle)
    return RestoreTarget(os.fsencode(path), found.st_dev, found.st_ino)


def leads_to(place: RestoreTarget, handle: int) -> bool:
    """Whether the recorded path now leads to an open directory, through no symlink."""
    try:
        there = open_plain(os.fsdecode(place.path))
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(there), os.fstat(handle))
    finally:
        os.close(there)


def read_place(restore: Restore, inventory: Inventory) -> RestoreTarget | None:
    """Return the recorded target; None for a dump, and for restores begun by an older version."""
    with inventory.reading() as tx:
        before = read_progress(tx, restore.number)
    return None if before is None else before.place


def leave_mark(
    restore: Restore, context: RestoreContext, *, made: bool = False, agreed: Way | None = None
) -> None:
    """Write the mark file into the target that a user begins or resumes; `made`: it was just created for it.

    `TargetError` if it is no longer the directory in which the restore began. Without a record, the way that
    the user `agreed` to is used, else one that nobody else can change.
    """
    _require_something(restore, context)
    handle, _ = _reach(restore, context, agreed)
    try:
        MarkFile(restore.id, context.secret).leave(handle, made=made)
    finally:
        os.close(handle)


def require_mark(restore: Restore, context: RestoreContext) -> None:
    """`TargetError` unless this process sees the target's mark file and may write there."""
    os.close(_reach_marked(restore, context)[0])


def bears_mark(restore: Restore, secret: ChunkSecret, place: RestoreTarget | None = None) -> bool:
    """Whether the target, as this process sees it, has the mark file."""
    mark = MarkFile(restore.id, secret)
    try:
        handle = _open(restore, place, mark)
    except (OSError, TargetError):
        return False
    try:
        return mark.is_in(handle)
    finally:
        os.close(handle)


def enter(restore: Restore, context: RestoreContext, *, replaces: bool) -> tuple[Target, RestoreTarget]:
    """Open the target of a restore; returns it with its record.

    `TargetError` if it is another directory than at the beginning, or if unattended and the mark file is
    missing.
    """
    handle, place = (_reach_marked if context.unattended else _reach)(restore, context)
    try:
        return Target(os.fsdecode(place.path), replaces=replaces, handle=handle), place
    finally:
        os.close(handle)


@contextmanager
def left_place(restore: Restore, inventory: Inventory) -> Iterator[tuple[int, bytes] | None]:
    """A context manager that opens a cancelled restore's target; yields it with its path, None if gone."""
    place = read_place(restore, inventory)
    try:
        handle = _open(restore, place, None)
    except (OSError, TargetError):
        yield None
        return
    try:
        yield handle, restore.target if place is None else place.path
    finally:
        os.close(handle)


def _open(restore: Restore, place: RestoreTarget | None, mark: MarkFile | None) -> int:
    """The directory in which a restore began, open. `OSError`, with a reason, if it is not there any more.

    A device may have another number after a reboot: then the inode and the mark count.
    """
    handle = _open_what_is_there(restore, place)
    if place is None:
        return handle
    found = os.fstat(handle)
    if found.st_ino == place.inode:
        is_marked = mark.is_in(handle) if mark else bool(_read(name_of(restore.id), handle))
        if found.st_dev == place.device or is_marked:
            return handle
    os.close(handle)
    raise FileNotFoundError(errno.ENOENT, "another directory is in its place")


def _open_what_is_there(restore: Restore, place: RestoreTarget | None) -> int:
    if place is not None:
        return open_plain(os.fsdecode(place.path))
    with way_to(os.fsdecode(restore.target)) as way:
        return way.open()


def _reach(restore: Restore, context: RestoreContext, agreed: Way | None = None) -> tuple[int, RestoreTarget]:
    """The target of a restore, open, and its record, which is made for one that has none."""
    place = read_place(restore, context.inventory)
    if place is None:
        if agreed is not None:
            return _adopt(restore, context, agreed, is_agreed=True)
        with way_to(os.fsdecode(restore.target)) as way:
            return _adopt(restore, context, way)
    try:
        return _open(restore, place, MarkFile(restore.id, context.secret)), place
    except OSError as error:
        shown = os.fsdecode(place.path)
        if context.unattended:
            raise _refused(restore, f"{shown} cannot be entered from here: {error.strerror}") from error
        raise TargetError(
            f"the target {shown} of restore {restore.id} cannot be used: {error.strerror}; it writes only "
            "into the directory that it began in",
            advice="move or mount that directory back, or give the restore up with `nightvault restore "
            f"cancel {restore.id}` and begin anew",
        ) from error


def _adopt(
    restore: Restore, context: RestoreContext, way: Way, *, is_agreed: bool = False
) -> tuple[int, RestoreTarget]:
    """Record the target of a restore that has no record: an older version began it, or it was cut."""
    with target_errors(way.path):
        if not context.unattended:
            way.make()
        handle = way.open()
    try:
        if not is_agreed:
            _require_safe(restore, context, way, handle)
        place = place_of(handle, way.path)
        with context.inventory.writing() as tx:
            note_place(tx, restore.number, place)
    except BaseException:
        os.close(handle)
        raise
    return handle, place


def _require_safe(restore: Restore, context: RestoreContext, way: Way, handle: int) -> None:
    """`TargetError` for a directory without the mark if nobody attends, or if others can change the way."""
    if MarkFile(restore.id, context.secret).is_in(handle):
        return
    if context.unattended:
        raise unmarked(restore)
    if way.risks:
        raise TargetError(
            f"restore {restore.id} does not go on: {way.risks[0].why}, on the way to {way.path}",
            advice="run the restore command again, with --yes if you trust them",
        )


def _reach_marked(restore: Restore, context: RestoreContext) -> tuple[int, RestoreTarget]:
    """Open the target as `_reach` does, if it has the mark file and is writable."""
    handle, place = _reach(restore, context)
    is_marked = MarkFile(restore.id, context.secret).is_in(handle)
    if is_marked and os.access(".", os.W_OK, dir_fd=handle, effective_ids=True):
        return handle, place
    os.close(handle)
    if not is_marked:
        raise unmarked(restore)
    raise _refused(restore, f"{os.fsdecode(place.path)} cannot be written from here")


def _require_something(restore: Restore, context: RestoreContext) -> None:
    """`TargetError` if files were written there and are gone: an unmounted disk, for example."""
    with context.inventory.reading() as tx:
        before = read_progress(tx, restore.number)
    if before is None or not before.files:
        return
    with suppress(OSError, TargetError):
        handle = _open_what_is_there(restore, before.place)
        try:
            if os.listdir(handle):
                return
        finally:
            os.close(handle)
    raise TargetError(
        f"restore {restore.id} wrote {before.files} files below {os.fsdecode(restore.target)}, and now "
        "nothing is there",
        advice="mount what was mounted there, or give it up with `nightvault restore cancel "
        f"{restore.id}` and begin anew",
    )


def unmarked(restore: Restore) -> TargetError:
    """Return the error for a restore whose target does not have its mark file."""
    shown = os.fsdecode(restore.target)
    return _refused(restore, f"{shown}, as seen from here, does not bear its mark: is it another place?")


def _refused(restore: Restore, why: str) -> TargetError:
    return TargetError(
        f"restore {restore.id} does not go on unattended: {why}",
        advice=f"as the user that began it: `nightvault restore resume {restore.id} --wait`",
    )
