"""Opens directories safely in places where other users may write: step by step, by open handles.

    with Way(path) as way:
        way.path         the real path: absolute, without symlinks
        way.handle       the directory, held open; of what is missing, the last directory that exists
        way.risks        the directories passed that other users can change
        way.make()       make what is missing

A symlink is followed if root or the caller owns it; others' are refused. A user who owns a directory, or may
write to it, can replace what is in it. With the sticky bit they cannot, if that belongs to root or the
caller. `open_plain` walks a real path again, and follows no symlink at all.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from backup.files import is_of_system, is_special
from backup.owners import Hazard, hazard_of, user_named

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP = _LOOK | os.O_DIRECTORY
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel


class Way:
    """The path to a directory, as it is now; a context manager that closes its handles. `OSError`."""

    def __init__(self, path: str, *, judges: bool = True) -> None:
        """Without `judges`, `risks` stays empty: looking up a group's members may take long."""
        self._judges = judges
        self._names: list[str] = []
        self._left: list[str] = _steps(_from_root(path))  # the next step is the last
        self._links = 0
        self._risks: dict[Hazard, None] = {}
        self._made: list[tuple[int, str]] = []
        self.handle = os.open("/", _STEP)
        try:
            self._walk()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """The real path of the directory, with what is missing of it."""
        return "/" + "/".join((*self._names, *reversed(self._left)))

    @property
    def exists(self) -> bool:
        """Whether nothing is missing."""
        return not self._left

    @property
    def risks(self) -> tuple[Hazard, ...]:
        """The directories on the way that other users can change; the last directory is never among them."""
        return tuple(self._risks)

    def make(self, mode: int = 0o700) -> bool:
        """Make missing directories, for the caller alone; whether there were any. `unmake` removes them."""
        while self._left:
            name = self._left[-1]
            with suppress(FileExistsError):  # another process made it at this moment
                os.mkdir(name, mode, dir_fd=self.handle)
                self._made.append((os.dup(self.handle), name))
            self._walk()
        return bool(self._made)

    def unmake(self) -> None:
        """Remove the directories that `make` made, as far as they are empty."""
        for above, name in reversed(self._made):
            with suppress(OSError):
                os.rmdir(name, dir_fd=above)

    def link(self, name: str) -> str | None:
        """The text of a symlink in the directory; None if there is no symlink. `OSError` if it is others'."""
        try:
            handle = os.open(name, _LOOK, dir_fd=self.handle)
        except FileNotFoundError:
            return None
        try:
            found = os.fstat(handle)
            if not stat.S_ISLNK(found.st_mode):
                return None
            self._require_trusted(name, found)
            return os.readlink("", dir_fd=handle)
        finally:
            os.close(handle)

    def open(self) -> int:
        """A handle of the directory for the caller to read and to close."""
        if self._left:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        return os.open(".", _READ, dir_fd=self.handle)

    def close(self) -> None:
        """Close every handle."""
        for above, _ in self._made:
            os.close(above)
        self._made.clear()
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _walk(self) -> None:
        """Go on until the end, or to what is missing."""
        while self._left:
            name = self._left.pop()
            try:
                self._up() if name == ".." else self._into(name)
            except FileNotFoundError:
                self._left.append(name)
                if ".." in self._left:
                    raise
                self._judge(os.geteuid())
                return

    def _into(self, name: str) -> None:
        following = _open_step(name, self.handle)
        try:
            found = os.fstat(following)
            self._judge(found.st_uid)
            if stat.S_ISLNK(found.st_mode):
                self._follow(name, following, found)
            else:
                self._names.append(name)
                self._move(os.dup(following))
        finally:
            os.close(following)

    def _follow(self, name: str, link: int, found: os.stat_result) -> None:
        self._require_trusted(name, found)
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        text = os.readlink("", dir_fd=link)
        self._left += _steps(text)
        if text.startswith("/"):
            self._restart([])

    def _require_trusted(self, name: str, found: os.stat_result) -> None:
        at = "/" + "/".join((*self._names, name))
        if not _is_trusted(found.st_uid):
            whose = f"{at} is a symlink of {user_named(found.st_uid)}"
            raise OSError(errno.ELOOP, f"{whose}: only those of root and of your own are followed", at)

    def _up(self) -> None:
        """The parent by its real path: a directory may be moved while it is open."""
        self._restart(self._names[:-1])

    def _restart(self, names: list[str]) -> None:
        self._left += reversed(names)
        self._names = []
        self._move(os.open("/", _STEP))

    def _move(self, handle: int) -> None:
        before, self.handle = self.handle, handle
        os.close(before)

    def _judge(self, owner: int) -> None:
        """Note the directory if others can put something in the place of an entry of that owner.

        The sticky bit keeps them from it only if the entry is not theirs.
        """
        if not self._judges:
            return
        here = "/" + "/".join(self._names)
        hazard = hazard_of(here, os.fstat(self.handle), is_last=not _is_trusted(owner))
        if hazard is not None:
            self._risks[hazard] = None


def open_plain(path: str) -> int:
    """A readable handle of the directory of a real path. `OSError` if anything on the way is a symlink."""
    handle = os.open("/", _STEP)
    try:
        for name in reversed(_steps(path)):
            below = os.open(name, _STEP, dir_fd=handle)
            os.close(handle)
            handle = below
        return os.open(".", _READ, dir_fd=handle)
    finally:
        os.close(handle)


def remove_plain(path: str, directory: int) -> None:
    """Remove the empty directory of a real path if it is the one that is open. `OSError` otherwise."""
    folder = open_plain(os.path.dirname(path))
    try:
        name = os.path.basename(path)
        if os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(directory)):
            os.rmdir(name, dir_fd=folder)
    finally:
        os.close(folder)


@contextmanager
def held_folder(path: str, *, follows: bool = False) -> Iterator[tuple[int, str]]:
    """Open the folder of a file; returns its handle and the file's name in it.

    If that name is a symlink of root or the caller, and `follows` is set: those of what it leads to.
    """
    for _ in range(_MOST_LINKS):
        with Way(os.path.dirname(path) or ".", judges=False) as way:
            name = os.path.basename(path)
            text = way.link(name) if follows else None
            if text is None:
                handle = way.open()
                break
            path = os.path.join(way.path, text)
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    try:
        yield handle, name
    finally:
        os.close(handle)


def open_held(path: str, flags: int, mode: int = 0o600) -> int:
    """Open a file in its held folder, not through a symlink: an `opener` for `open`."""
    with held_folder(path) as (folder, name):
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)


def size_held(path: str) -> int | None:
    """The size of what has that name in its held folder; None if nothing has."""
    try:
        with held_folder(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None


def special_at(path: str) -> int | None:
    """A handle (O_PATH) of the device or pipe that a path leads to; None if it leads to none.

    What is in /dev is taken as it is. Elsewhere others may have put it there: `OSError` if it, or a symlink
    on the way to it, belongs neither to root nor to the caller.
    """
    if not is_special(path):
        return None
    if is_of_system(path):
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    with held_folder(path, follows=True) as (folder, name):
        handle = os.open(name, _LOOK, dir_fd=folder)
    found = os.fstat(handle)
    if _is_trusted(found.st_uid) and not stat.S_ISREG(found.st_mode):
        return handle
    os.close(handle)
    if stat.S_ISREG(found.st_mode):  # it came meanwhile
        return None
    whose = f"a pipe or a device of {user_named(found.st_uid)} is there"
    raise OSError(errno.EPERM, f"{whose}: only root's and your own are written to", path)


def open_special(path: str) -> int | None:
    """Open the device or pipe that a path leads to, to write; None, `OSError`: as `special_at`.

    It does not wait for a reader of a pipe: `OSError` if there is none.
    """
    found = special_at(path)
    if found is None:
        return None
    try:
        handle = os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(error.errno, "nobody reads what is there: start the reader first", path) from error
    finally:
        os.close(found)
    os.set_blocking(handle, True)
    return handle


def make_folders(path: str, mode: int = 0o700) -> None:
    """Make a directory and what is missing above it, none for others to write, by any umask. `OSError`."""
    with Way(path, judges=False) as way:
        way.make(mode)


def _from_root(path: str) -> str:
    """The path from `/`; the path of a removed directory is not known, and not needed."""
    return path if path.startswith("/") else os.path.join(os.getcwd(), path)


def _steps(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]


def _open_step(name: str, above: int) -> int:
    """A handle of a directory or of a symlink. As a directory first: what is to be mounted there is."""
    try:
        return os.open(name, _STEP, dir_fd=above)
    except NotADirectoryError:
        handle = os.open(name, _LOOK, dir_fd=above)
        if stat.S_ISLNK(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        raise


def _is_trusted(user: int) -> bool:
    return user in {0, os.geteuid()}
