"""What hangs on an inode: set in an order that keeps it, by names, never more than it was."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import struct
from pathlib import Path

import pytest

from backup.format.acl import ACCESS, DEFAULT, Line, build, parse
from backup.model import EntryKind, Extra, Owner, Problem
from backup.restorer.writer.directories import Target
from backup.restorer.writer.owners import Owners
from backup.restorer.writer.write import Writer
from backup.source.flags import read_flags, write_flags
from tests.restorer.bench import Bench, as_root, wanted
from tests.support.random_trees import loosen
from tests.support.trees import flags_of

STRANGER = 4_242
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def acl(*named: Line, group: int = 0, mask: int = 6) -> bytes:
    """rw for the owner, what is given for the group, nothing for others."""
    users = [line for line in named if line.tag == 2]
    groups = [line for line in named if line.tag == 8]
    none = 2**32 - 1
    ends = [Line(0x10, mask, none), Line(0x20, 0, none)]
    return build([Line(1, 6, none), *users, Line(4, group, none), *groups, *ends])


def xattr(path: Path, name: bytes) -> bytes:
    return os.getxattr(path, name)


def refusing(monkeypatch: pytest.MonkeyPatch, names: set[bytes], number: int) -> None:
    real = os.setxattr

    def setxattr(inode: int | bytes, name: bytes, value: bytes) -> None:
        if name in names:
            raise OSError(number, os.strerror(number))
        real(inode, name, value)

    monkeypatch.setattr(os, "setxattr", setxattr)


def test_xattrs_of_a_file_that_may_not_be_written(bench: Bench) -> None:
    bench.file(b"a", b"content", mode=0o400, extra=Extra(xattrs=((b"user.one", b"\0value"),)))
    assert xattr(bench.place / "a", b"user.one") == b"\0value"
    assert not bench.problems


@as_root
def test_a_change_of_owner_takes_neither_capability_nor_setuid(bench: Bench) -> None:
    extra = Extra(xattrs=((b"security.capability", CAPABILITY), (b"trusted.one", b"1")))
    bench.file(b"a", b"content", mode=0o6755, owner=Owner(STRANGER, STRANGER), extra=extra)
    assert xattr(bench.place / "a", b"security.capability") == CAPABILITY
    assert xattr(bench.place / "a", b"trusted.one") == b"1"
    assert stat.S_IMODE((bench.place / "a").stat().st_mode) == 0o6755
    assert not bench.problems


@as_root
@pytest.mark.parametrize("numeric", [False, True])
def test_owners_and_acls_by_name_where_there_are_any(tmp_path: Path, numeric: bool) -> None:
    target, problems = Target(str(tmp_path / "out")), list[Problem]()
    writer = Writer(target, problems.append, "0123456789abcdef", Owners(numeric=numeric))
    names = ((2, STRANGER, "daemon"), (8, STRANGER, "no-such-group"))
    value = acl(Line(2, 6, STRANGER), Line(8, 4, STRANGER))
    extra = Extra(xattrs=((ACCESS, value),), acl_names=names)
    writer.special(
        wanted(b"f", EntryKind.FIFO, owner=Owner(STRANGER, STRANGER, "daemon", "nope"), extra=extra)
    )
    target.close()
    assert not problems
    found = (tmp_path / "out" / "f").stat()
    daemon = STRANGER if numeric else 1
    assert (found.st_uid, found.st_gid) == (daemon, STRANGER)
    lines = parse(xattr(tmp_path / "out" / "f", ACCESS))
    assert [line.id for line in lines if line.tag in {2, 8}] == [daemon, STRANGER]


@as_root
def test_a_name_goes_before_a_number_that_is_anothers_here(bench: Bench) -> None:
    """Else that account would own a program that runs with the rights of somebody else."""
    known, another = pwd.getpwnam("daemon"), pwd.getpwnam("bin")
    saved = Owner(another.pw_uid, another.pw_gid, "daemon", "daemon")
    extra = Extra(xattrs=((b"security.capability", CAPABILITY),))
    bench.file(b"a", b"content", mode=0o6755, owner=saved, extra=extra)
    found = (bench.place / "a").stat()
    assert (found.st_uid, found.st_gid) == (known.pw_uid, grp.getgrnam("daemon").gr_gid)
    assert stat.S_IMODE(found.st_mode) == 0o6755
    assert xattr(bench.place / "a", b"security.capability") == CAPABILITY
    assert not bench.problems


@as_root
@pytest.mark.parametrize("kind", [EntryKind.FILE, EntryKind.FIFO, EntryKind.DIRECTORY])
@pytest.mark.parametrize(("user", "group"), [("gone", "daemon"), ("daemon", "gone"), ("gone", "gone")])
def test_an_unknown_name_whose_number_is_anothers_here_lends_no_rights(
    bench: Bench, kind: EntryKind, user: str, group: str
) -> None:
    saved = Owner(1, 1, user, group)
    extra = None if kind is EntryKind.FIFO else Extra(xattrs=((b"security.capability", CAPABILITY),))
    entry = wanted(b"a", kind, mode=0o6755, owner=saved, extra=extra)
    if kind is EntryKind.FILE:
        bench.file(b"a", b"content", mode=0o6755, owner=saved, extra=extra)
    elif kind is EntryKind.FIFO:
        bench.writer.special(entry)
    else:
        bench.writer.directory(entry)
        bench.writer.finish()
    found = (bench.place / "a").stat()
    assert (found.st_uid, found.st_gid) == (1, 1)
    is_kept = kind is EntryKind.DIRECTORY  # setuid means nothing there, and setgid goes with the group
    kept = (0o4000 | 0o2000 * (group == "daemon")) * is_kept
    assert stat.S_IMODE(found.st_mode) == 0o755 | kept
    assert os.listxattr(bench.place / "a") == []
    names = (("user", user), ("group", group))
    why = "; ".join(
        f"no {what} gone is known here, and 1 is daemon" for what, name in names if name == "gone"
    )
    told = [f"security.capability: it is left off, as {why}"] if extra else []
    told += [] if kept == 0o6000 else [f"mode: setuid and setgid are left off, as {why}"]
    assert [problem.detail for problem in bench.problems] == told


@as_root
@pytest.mark.parametrize(
    "saved", [Owner(1, 1), Owner(STRANGER, STRANGER, "gone", "gone"), Owner(1, 1, "daemon")]
)
def test_a_number_that_is_nobodys_here_or_had_no_name_keeps_all(bench: Bench, saved: Owner) -> None:
    extra = Extra(xattrs=((b"security.capability", CAPABILITY),))
    bench.file(b"a", b"content", mode=0o6755, owner=saved, extra=extra)
    assert stat.S_IMODE((bench.place / "a").stat().st_mode) == 0o6755
    assert xattr(bench.place / "a", b"security.capability") == CAPABILITY
    assert not bench.problems


@as_root
def test_numeric_owners_keep_all(tmp_path: Path) -> None:
    target, problems = Target(str(tmp_path / "out")), list[Problem]()
    writer = Writer(target, problems.append, "0123456789abcdef", Owners(numeric=True))
    writer.special(wanted(b"f", EntryKind.FIFO, mode=0o6755, owner=Owner(1, 1, "gone", "gone")))
    target.close()
    assert stat.S_IMODE((tmp_path / "out" / "f").stat().st_mode) == 0o6755
    assert not problems


def test_an_acl_agrees_with_its_mode(bench: Bench) -> None:
    value = acl(Line(2, 6, STRANGER))
    bench.file(b"a", b"content", mode=0o660, extra=Extra(xattrs=((ACCESS, value),)))
    assert xattr(bench.place / "a", ACCESS) == value
    assert stat.S_IMODE((bench.place / "a").stat().st_mode) == 0o660


def test_without_its_acl_a_file_grants_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode's group bits were the mask: alone they would let the group write what only one may."""
    refusing(monkeypatch, {ACCESS}, errno.EOPNOTSUPP)
    bench.file(b"a", b"content", mode=0o660, extra=Extra(xattrs=((ACCESS, acl(Line(2, 6, STRANGER))),)))
    bench.file(b"b", b"content", mode=0o660, extra=Extra(xattrs=((ACCESS, acl(group=4)),)))
    bench.file(b"c", b"content", mode=0o660, extra=Extra(xattrs=((ACCESS, b"damaged"),)))
    assert [stat.S_IMODE((bench.place / name).stat().st_mode) for name in "abc"] == [0o600, 0o640, 0o600]
    assert [(problem.path, problem.detail) for problem in bench.problems] == [
        (b"a", "system.posix_acl_access: Operation not supported"),
        (b"b", "system.posix_acl_access: Operation not supported"),
        (b"c", "system.posix_acl_access: an ACL is damaged"),
    ]


def test_the_target_lends_nothing(bench: Bench) -> None:
    """A default ACL of the target's would open what is restored below it to others."""
    os.setxattr(bench.place, DEFAULT, acl(Line(2, 7, STRANGER)))
    bench.writer.directory(wanted(b"d", EntryKind.DIRECTORY, mode=0o700))
    bench.file(b"d/a", b"content", mode=0o640)
    bench.writer.special(wanted(b"d/fifo", EntryKind.FIFO, mode=0o640))
    bench.writer.finish()
    for name in ("d", "d/a", "d/fifo"):
        assert os.listxattr(bench.place / name) == []
    assert not bench.problems


def test_what_cannot_be_set_is_told_by_its_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, {b"trusted.one"}, errno.EPERM)
    extra = Extra(xattrs=((b"trusted.one", b"1"), (b"user.one", b"1")))
    bench.file(b"a", b"content", extra=extra)
    assert [problem.detail for problem in bench.problems] == ["trusted.one: Operation not permitted"]
    assert os.listxattr(bench.place / "a") == ["user.one"]


def test_what_the_system_set_by_itself_is_no_problem(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, {b"security.selinux"}, errno.EPERM)
    real = os.getxattr
    label = b"system_u:object_r:etc_t:s0\0"
    monkeypatch.setattr(os, "getxattr", lambda i, n: label if n == b"security.selinux" else real(i, n))
    bench.file(b"a", b"content", extra=Extra(xattrs=((b"security.selinux", label),)))
    assert not bench.problems


def needs_flags(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    known = read_flags(handle)
    os.close(handle)
    if known is None:
        pytest.skip("this file system knows no flags")


@as_root
def test_flags_come_last_also_with_hard_links_and_what_is_in_a_directory(bench: Bench) -> None:
    needs_flags(bench.place)
    other = wanted(b"d/b", size=7, extra=Extra(flags=0x50))
    bench.writer.directory(wanted(b"d", EntryKind.DIRECTORY, mode=0o555, extra=Extra(flags=0x10080)))
    bench.writer.directory(wanted(b"e", EntryKind.DIRECTORY, extra=Extra(flags=0x10)))
    first = wanted(b"e/a", size=7, extra=Extra(flags=0x50))._replace(links=(other,))
    assert bench.writer.begin(0, first)
    assert bench.writer.write(0, 0, memoryview(b"content"))
    bench.writer.end(0)
    bench.writer.finish()
    assert not bench.problems
    assert {name: flags_of(bench.place / name) for name in ("d", "e", "e/a", "d/b")} == {
        "d": 0x10080, "e": 0x10, "e/a": 0x50, "d/b": 0x50,
    }  # fmt: skip
    assert (bench.place / "e/a").stat().st_ino == (bench.place / "d/b").stat().st_ino
    loosen(bench.place)


def test_flags_that_are_refused_do_not_take_others_with_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_flags(bench.place)

    def write(handle: int, flags: int) -> None:
        if flags & 0x4010:
            raise OSError(errno.EPERM, "Operation not permitted")
        write_flags(handle, flags)

    monkeypatch.setattr("backup.restorer.writer.metadata.write_flags", write)
    bench.file(b"a", b"content", extra=Extra(flags=0x40D0))
    assert flags_of(bench.place / "a") == 0xC0
    assert [problem.detail for problem in bench.problems] == [
        "flags: immutable, data journalling: Operation not permitted"
    ]


def test_a_file_system_without_flags(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.restorer.writer.metadata.read_flags", lambda _: None)
    bench.file(b"a", b"content", extra=Extra(flags=0x40))
    bench.file(b"b", b"content")
    assert [(problem.path, problem.detail) for problem in bench.problems] == [
        (b"a", "flags: no dump: the file system knows none")
    ]


def test_a_mode_that_the_system_changes_on_its_way_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.chmod
    monkeypatch.setattr(os, "chmod", lambda inode, mode: real(inode, mode & ~stat.S_ISGID))
    bench.file(b"a", b"content", mode=0o2755)
    assert [problem.detail for problem in bench.problems] == ["mode: it is 0755 instead of 2755"]


@pytest.mark.parametrize("mtime_ns", [0, 1, -1, -(10**18), 4 * 10**18])
def test_odd_times(bench: Bench, mtime_ns: int) -> None:
    bench.file(b"a", b"content", mtime_ns=mtime_ns)
    assert (bench.place / "a").stat().st_mtime_ns == mtime_ns
    assert not bench.problems


def test_a_name_that_means_another_file_after_the_rename_is_told(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(old: bytes, new: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        (bench.place / os.fsdecode(old)).unlink()
        (bench.place / os.fsdecode(old)).write_text("forged")
        real(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rename)
    bench.file(b"a", b"content", extra=Extra(flags=0x40))
    assert [problem.detail for problem in bench.problems] == ["not restored: something else took its place"]
    assert bench.writer.files == 0
    assert flags_of(bench.place / "a") == 0


def test_what_an_earlier_sitting_was_lent_is_taken_away_again(bench: Bench) -> None:
    """The directory lends nothing any more, as what is new in it shows; what was begun before is not new."""
    os.mkdir(bench.place / "d", 0o700)
    os.setxattr(bench.place / "d", DEFAULT, acl(Line(2, 7, STRANGER)))
    old = wanted(b"d/old", size=7)
    assert bench.writer.begin(1, old)
    bench.writer.synced()
    bench.writer.abandon()
    os.removexattr(bench.place / "d", DEFAULT)
    writer = Writer(bench.target, bench.problems.append, "0123456789abcdef", resumes=True)
    assert writer.begun_before(1, old)
    for key, entry in ((0, wanted(b"d/new", size=7)), (1, old)):
        assert key or writer.begin(key, entry)
        assert writer.write(key, 0, memoryview(b"content"))
        writer.end(key)
    assert [os.listxattr(bench.place / "d" / name) for name in ("new", "old")] == [[], []]
    assert not bench.problems


def test_what_an_earlier_sitting_made_tells_nothing_of_what_is_new(bench: Bench) -> None:
    os.mkdir(bench.place / "d", 0o700)
    old = wanted(b"d/old", size=7)
    assert bench.writer.begin(1, old)
    bench.writer.synced()
    bench.writer.abandon()
    os.setxattr(bench.place / "d", DEFAULT, acl(Line(2, 7, STRANGER)))
    writer = Writer(bench.target, bench.problems.append, "0123456789abcdef", resumes=True)
    assert writer.begun_before(1, old)
    for key, entry in ((1, old), (0, wanted(b"d/new", size=7))):
        assert key or writer.begin(key, entry)
        assert writer.write(key, 0, memoryview(b"content"))
        writer.end(key)
    assert [os.listxattr(bench.place / "d" / name) for name in ("new", "old")] == [[], []]
    assert not bench.problems
