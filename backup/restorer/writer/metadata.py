"""Sets the metadata of an inode through its own handle: owner, xattrs, ACLs, mode, times, flags.

The order matters: changing the owner clears setuid and capabilities, a mode may deny us the rest, every step
changes times, and nothing can be set once an inode is immutable. What cannot be set is reported and never
grants more than the entry did: setuid is set only with its user, setgid with its group; neither of them, nor
capabilities, if another account would own the program; and without its ACL the mode grants no more than mode
and ACL did together.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from backup.errors import FormatError
from backup.format.acl import ACCESS, DEFAULT, mode_without
from backup.model import FURTHEST_NS, EntryKind, Extra, Problem, ProblemKind
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.writer.owners import Owners, Strangers
from backup.source.flags import KEPT, LAYOUT, LOCKS, NAMES, read_flags, write_flags

Report = Callable[[Problem], None]

_REFUSED = (OSError, OverflowError)
_COARSEST_NS = 2_000_000_000  # FAT stores even seconds: smaller differences are not reported
_NO_XATTRS = {errno.EOPNOTSUPP, errno.ENOSYS}
_NOTHING = Extra()
_LENT_MODE = stat.S_ISUID | stat.S_ISGID
CAPABILITY = b"security.capability"
_NO_STRANGERS = Strangers()


class Metadata:
    """Sets the metadata of one restore's entries, and reports failures."""

    def __init__(self, report: Report, owners: Owners) -> None:
        self._report = report
        self._owners = owners
        self._without_acls: bytes | None = None  # the last directory, if the last entry inherited no ACLs
        self._plain: bytes | None = None  # a directory of ours where files inherit no ACLs and flags

    def prepare(self, handle: int, entry: RestoreEntry) -> None:
        """Set, before the first byte, the flags that determine the file's layout on disk."""
        layout = (entry.extra or _NOTHING).flags & LAYOUT
        if layout:
            have = read_flags(handle)
            if have is not None:
                _first_failure(handle, have, have | layout)  # failures are reported at the end

    def apply(self, handle: int, entry: RestoreEntry, *, opens_nothing: bool = False) -> None:
        """Set everything but flags; `opens_nothing` for an O_PATH handle."""
        mode = self.give(handle, entry, os.fstat(handle), opens_nothing=opens_nothing)
        self.check(os.fstat(handle), entry, mode)

    def give(
        self,
        handle: int,
        entry: RestoreEntry,
        found: os.stat_result,
        *,
        opens_nothing: bool = False,
        ours: bool = False,
    ) -> int | None:
        """Set everything but flags on an inode whose status is `found`; returns the mode for `check`.

        `ours`: it is new and its directory our own, so nobody else can have changed what it inherited.
        """
        inode: int | bytes = b"/proc/self/fd/%d" % handle if opens_nothing else handle
        has_user, has_group = self._own(inode, entry, found)
        strangers = self._owners.strangers(entry.owner) if lends_rights(entry) else _NO_STRANGERS
        mode = entry.mode if ours and self._is_plain(entry) else self._xattrs(inode, entry, strangers)
        if entry.kind is not EntryKind.SYMLINK:
            mode = self._without_lent_rights(entry, mode, strangers, has_user=has_user, has_group=has_group)
            self._setting(entry, "mode", lambda: os.chmod(inode, mode))
        times = (entry.mtime_ns, entry.mtime_ns)
        return mode if self._setting(entry, "times", lambda: os.utime(inode, ns=times)) else None

    def _is_plain(self, entry: RestoreEntry) -> bool:
        """Whether the entry needs only owner, mode and times, and its file inherited nothing else.

        A file inherits flags and ACLs from its directory; the previous file in this one inherited none.
        """
        return self.is_bare(entry.directory) and entry.extra is None and entry.kind is EntryKind.FILE

    def is_bare(self, directory: bytes) -> bool:
        """Whether files in this directory of ours are known to inherit neither flags nor ACLs."""
        return directory == self._plain

    def lock(self, handle: int, entry: RestoreEntry, *, ours: bool = False) -> None:
        """Set the flags of an open file or directory: the last step, after rename and content."""
        if ours and self._is_plain(entry):
            return
        if self._flags_are_right(handle, entry) and ours and entry.directory == self._without_acls:
            self._plain = entry.directory

    def _flags_are_right(self, handle: int, entry: RestoreEntry) -> bool:
        """Set flags; returns whether there was nothing to set."""
        want = (entry.extra or _NOTHING).flags & KEPT
        try:
            have = read_flags(handle)
            if have is None:
                if want:
                    self._report_unset(entry, f"flags: {_flag_names(want)}: the file system knows none")
                return not want
            aim = have & ~(KEPT & ~LAYOUT) | want
            if aim == have:
                return True
            why = _first_failure(handle, have, aim)
            missing = want & ~(read_flags(handle) or 0)
        except OSError as error:
            self._report_unset(entry, f"flags: {reason(error)}")
            return False
        if missing:
            self._report_unset(entry, f"flags: {_flag_names(missing)}: {why or 'not kept here'}")
        return False

    def _own(self, inode: int | bytes, entry: RestoreEntry, found: os.stat_result) -> tuple[bool, bool]:
        """Set owner and group; returns whether each is as wanted."""
        uid, gid = self._owners.ids(entry.owner)
        has_user, has_group = found.st_uid == uid, found.st_gid == gid
        if has_user and has_group:
            return True, True
        try:
            os.chown(inode, uid, gid)
        except _REFUSED as error:
            if not (has_user or has_group):
                has_group = _gave_group(inode, gid)
            what = "group" if has_user else "owner" if has_group else "owner and group"
            self._report_unset(entry, f"{what}: {reason(error)}")
            return has_user, has_group
        return True, True

    def _xattrs(self, inode: int | bytes, entry: RestoreEntry, strangers: Strangers) -> int:
        """Set xattrs and ACLs; returns the mode that goes with what was set."""
        extra = entry.extra or _NOTHING
        want = dict(extra.xattrs)
        if any(strangers) and want.pop(CAPABILITY, None) is not None:
            self._report_unset(entry, f"{_shown(CAPABILITY)}: it is left off, as {_both(strangers)}")
        mode = entry.mode
        self._drop_acls(inode, entry, {ACCESS, DEFAULT} - want.keys())
        for name, value in want.items():
            try:
                if name in {ACCESS, DEFAULT}:
                    _set_xattr(inode, name, self._owners.acl(value, extra))
                else:
                    _set_xattr(inode, name, value)
            except (OSError, FormatError) as error:
                self._report_unset(entry, f"{_shown(name)}: {reason(error)}")
                if name == ACCESS:
                    mode = mode_without(value, mode)
        return mode

    def _drop_acls(self, inode: int | bytes, entry: RestoreEntry, names: set[bytes]) -> None:
        """Remove inherited ACLs that the entry did not have."""
        if entry.kind is EntryKind.SYMLINK:
            return
        self._without_acls = None
        try:
            lent = names & {os.fsencode(name) for name in os.listxattr(inode)}
            for name in lent:
                os.removexattr(inode, name)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                self._report_unset(entry, f"ACL: {reason(error)}")
            return
        if not lent and entry.extra is None and entry.kind is EntryKind.FILE:
            self._without_acls = entry.directory

    def _without_lent_rights(
        self, entry: RestoreEntry, mode: int, strangers: Strangers, *, has_user: bool, has_group: bool
    ) -> int:
        """The mode, without setuid and setgid where owner or group could not be restored or is strange."""
        if strange := withheld(entry, mode, strangers):
            self._report_unset(entry, f"mode: setuid and setgid are left off, as {_both(strangers)}")
            mode &= ~strange
        lent = (0 if has_user else stat.S_ISUID) | (0 if has_group else stat.S_ISGID)
        if not has_user and entry.kind is not EntryKind.DIRECTORY:
            lent |= stat.S_ISGID  # its group may now change the program
        if mode & lent:
            self._report_unset(entry, "mode: setuid and setgid are left off, as the owner could not be set")
        return mode & ~lent

    def check(self, found: os.stat_result, entry: RestoreEntry, mode: int | None) -> None:
        """Verify the mode, as some systems accept a value and set another. None: already reported."""
        if mode is None:
            return
        if entry.kind is not EntryKind.SYMLINK and stat.S_IMODE(found.st_mode) != mode:
            self._report_unset(entry, f"mode: it is {stat.S_IMODE(found.st_mode):04o} instead of {mode:04o}")
        if abs(found.st_mtime_ns - entry.mtime_ns) >= _COARSEST_NS:
            self._report_unset(entry, "times: beyond what the file system can hold")
        elif abs(entry.mtime_ns) >= FURTHEST_NS:
            day = "after 2262-04-11" if entry.mtime_ns > 0 else "before 1677-09-21"
            self._report_unset(
                entry, f"times: it was last changed {day}, and has that day now: no other is kept"
            )

    def _setting(self, entry: RestoreEntry, what: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except _REFUSED as error:
            self._report_unset(entry, f"{what}: {reason(error)}")
            return False
        return True

    def _report_unset(self, entry: RestoreEntry, detail: str) -> None:
        self._report(Problem(entry.path, ProblemKind.NOT_SET, detail))


def lends_rights(entry: RestoreEntry) -> bool:
    """Whether a program, or new files in a directory, get rights of its owner or group, or capabilities."""
    return entry.mode & _LENT_MODE != 0 or CAPABILITY in dict((entry.extra or _NOTHING).xattrs)


def withheld(entry: RestoreEntry, mode: int, strangers: Strangers) -> int:
    """Return the bits of `mode` that would grant rights to, or of, an account that did not have them."""
    if entry.kind is EntryKind.DIRECTORY:
        return mode & stat.S_ISGID if strangers.group else 0
    return mode & _LENT_MODE if any(strangers) else 0


def reason(error: Exception) -> str:
    """Return the system's error text without the path, which the report names anyway."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _gave_group(inode: int | bytes, gid: int) -> bool:
    """Whether the group could be set: an ordinary user may give files to groups of their own."""
    try:
        os.chown(inode, -1, gid)
    except _REFUSED:
        return False
    return True


def _set_xattr(inode: int | bytes, name: bytes, value: bytes) -> None:
    try:
        os.setxattr(inode, name, value)
    except OSError:
        if not _has_xattr(inode, name, value):  # the system may have set it by itself: security.selinux
            raise


def _has_xattr(inode: int | bytes, name: bytes, value: bytes) -> bool:
    try:
        return os.getxattr(inode, name) == value
    except OSError:
        return False


def _first_failure(handle: int, have: int, aim: int) -> str:
    """Set flags, locking ones last; one by one if all at once is refused."""
    why = ""
    for step in (have & LOCKS & aim | aim & ~LOCKS, aim):
        if step == have:
            continue
        try:
            write_flags(handle, step)
            have = step
        except OSError as error:
            why = why or reason(error)
            for flag in NAMES:
                if (have ^ step) & flag:
                    have = _flipped(handle, have, flag)
    return why


def _flipped(handle: int, have: int, flag: int) -> int:
    try:
        write_flags(handle, have ^ flag)
    except OSError:
        return have
    return have ^ flag


def _flag_names(flags: int) -> str:
    return ", ".join(name for flag, name in NAMES.items() if flags & flag)


def _both(strangers: Strangers) -> str:
    return "; ".join(filter(None, strangers))


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
