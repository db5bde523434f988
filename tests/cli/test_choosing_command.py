"""What `restore` takes and what it replaces: paths, globs, patterns, points in time, in place, --delete."""

from __future__ import annotations

import os
import shutil
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.doubles import ManualClock
from tests.support.servers import Server, directory_server
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    (made.source / "deep" / "er" / "star*[1].txt").write_text("literal")
    (made.source / "deep" / "d.log").write_text("log")
    made.init()
    made.backup()
    return made


def files_below(place: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(where, name), place)
        for where, directories, files in os.walk(place)
        for name in (
            *files,
            *(directory for directory in directories if os.path.islink(os.path.join(where, directory))),
        )
    }


def restore(server: Server, *words: object, target: Path | None = None, snapshot: str = "latest") -> str:
    where = () if target is None else ("--target", target)
    result = server.done("restore", snapshot, *words, *where, "--key", server.key_file)
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (("a.txt",), {"a.txt"}),
        (("a.txt", "deep/er"), {"a.txt", "deep/er/c.txt", "deep/er/star*[1].txt"}),
        (("*.txt",), {"a.txt", "deep/er/c.txt", "deep/er/star*[1].txt"}),  # as `find` takes it
        (("er/*.txt",), {"deep/er/c.txt", "deep/er/star*[1].txt"}),
        (("**/?.txt",), {"a.txt", "deep/er/c.txt"}),
        (("deep/e*",), {"deep/er/c.txt", "deep/er/star*[1].txt"}),
        (("deep/er/star*[1].txt",), {"deep/er/star*[1].txt"}),
        (("--include", "*.txt", "--exclude", "star*"), {"a.txt", "deep/er/c.txt"}),
        (("--include", "er/"), {"deep/er/c.txt", "deep/er/star*[1].txt"}),
        (("--exclude", "deep"), {"a.txt", "link"}),
        (("--exclude", "*.*", "--exclude", "!d.log"), {"link", "deep/d.log"}),
        (("deep", "--exclude", "*.log", "--exclude", "er/"), {"deep/b.bin"}),
    ],
)
def test_what_comes_back(server: Server, tmp_path: Path, words: tuple[str, ...], there: set[str]) -> None:
    out = tmp_path / "out"
    restore(server, *words, target=out, snapshot=f"latest:{server.source}")
    assert files_below(out) == there
    for name in there:
        if not (out / name).is_symlink():
            assert (out / name).read_bytes() == (server.source / name).read_bytes()


def test_directories_on_the_way_are_as_they_were_and_left_alone_where_they_are(
    server: Server, tmp_path: Path
) -> None:
    (server.source / "deep").chmod(0o750)
    server.backup()
    out = tmp_path / "out"
    restore(server, "deep/er/c.txt", target=out, snapshot=f"latest:{server.source}")
    assert (out / "deep").stat().st_mode & 0o7777 == 0o750
    assert (out / "deep").stat().st_mtime_ns == (server.source / "deep").stat().st_mtime_ns
    (out / "deep").chmod(0o711)
    restore(server, "deep/er/c.txt", target=out, snapshot=f"latest:{server.source}")
    assert (out / "deep").stat().st_mode & 0o7777 == 0o711


def test_a_symlink_on_the_way_is_not_followed_and_not_replaced(server: Server, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "deep").symlink_to(elsewhere)
    words = ("restore", f"latest:{server.source}", "deep/er/c.txt", "--target", out, "--key", server.key_file)
    assert "deep" in server.run(*words).stderr
    assert server.run(*words).exit_code == 3
    assert list(elsewhere.iterdir()) == []
    assert os.readlink(out / "deep") == str(elsewhere)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("aa.txt",), "did you mean"),
        (("*.pdf",), "nothing in snapshot"),
        (("../a.txt",), "is not below"),
        (("/etc/passwd",), "is not below"),
        (("--include", "!"), "--include"),
        (("--include", "*.pdf"), "--include '*.pdf'"),
        (("--include", "*.txt", "--exclude", "*"), "is left"),
        (("--exclude", "*"), "is left: all of it is excluded, by --exclude '*'"),
    ],
)
def test_what_names_nothing(server: Server, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    at = f"latest:{server.source}"
    assert said in server.fails(2, "restore", at, *words, "--target", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_patterns_that_name_nothing_are_told(server: Server, tmp_path: Path) -> None:
    """Of several patterns, those that named nothing are told; the others count."""
    at = f"latest:{server.source}"
    told = restore(
        *(server, "--include", "*.txt", "--include", "*.pdf", "--exclude", "*.lgo"),
        target=tmp_path / "out",
        snapshot=at,
    )
    assert "--include '*.pdf' names nothing" in told
    assert "--exclude '*.lgo' names nothing" in told
    assert "--include '*.txt'" not in told


def test_a_glob_means_what_it_means_to_find(server: Server, tmp_path: Path) -> None:
    """`restore` and `find` agree on each form of a glob."""
    at = f"latest:{server.source}"
    for glob in ("*.txt", "er/*.txt", "**/?.txt", f"{server.source}/*.txt", "[ad]*"):
        found = {found_path["path"] for found_path in server.json("find", glob, "--snapshot", "latest")}
        found = {path for path in found if path.startswith(f"{server.source}/")}
        out = tmp_path / f"out-{abs(hash(glob))}"
        restore(server, glob, target=out, snapshot=at)
        back = {f"{server.source}/{name}" for name in files_below(out)}
        whole = {path for path in found if not Path(path).is_dir() or Path(path).is_symlink()}
        assert whole <= back
        assert all(any(path == top or path.startswith(f"{top}/") for top in found) for path in back)


def test_a_point_in_time(server: Server, tmp_path: Path) -> None:
    assert isinstance(server.clock, ManualClock)
    then = server.json("snapshots")[0]["started_at"]
    server.clock.sleep(timedelta(days=1).total_seconds())
    (server.source / "a.txt").write_text("newer")
    server.backup()
    restore(server, "--at", then, target=tmp_path / "out", snapshot=f"latest:{server.source}/a.txt")
    assert (tmp_path / "out" / "a.txt").read_text() == "alpha\n"


def test_overwrite(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    at = f"latest:{server.source}"
    restore(server, target=out, snapshot=at)
    b_bin = (out / "deep" / "b.bin").stat()
    (out / "a.txt").write_text("mine, and longer")
    (out / "link").unlink()
    restore(server, "--overwrite", "never", target=out, snapshot=at)
    assert (out / "a.txt").read_text() == "mine, and longer"
    assert os.readlink(out / "link") == "deep/b.bin"

    told = server.json("restore", at, "--target", out, "--overwrite", "if-changed", "--dry-run")
    assert (told["files"], told["kept"], told["replaced"]) == (1, 5, 1)
    restore(server, "--overwrite", "if-changed", target=out, snapshot=at)
    assert (out / "a.txt").read_text() == "alpha\n"
    assert (out / "deep" / "b.bin").stat().st_ino == b_bin.st_ino

    damaged = bytearray((out / "deep" / "b.bin").read_bytes())
    damaged[100] ^= 1
    (out / "deep" / "b.bin").write_bytes(damaged)
    os.utime(out / "deep" / "b.bin", ns=(b_bin.st_mtime_ns, b_bin.st_mtime_ns))
    assert server.json("restore", at, "--target", out, "--overwrite", "if-changed", "--dry-run")["files"] == 0
    text = restore(server, "--overwrite", "if-changed", "--verify", target=out, snapshot=at)
    assert "  kept       5 entries\n" in text
    assert "  compared   1 entry\n" in text
    assert_same_tree(out, server.source)


def test_never_leaves_directories_and_symlinks_that_are_there(server: Server, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    (out / "deep").chmod(0o700 | 0o001)
    (out / "deep" / "er").symlink_to(elsewhere)
    words = ("restore", f"latest:{server.source}", "--target", out, "--key", server.key_file)
    assert server.run(*words, "--overwrite", "never").exit_code == 3
    assert os.readlink(out / "deep" / "er") == str(elsewhere)
    assert list(elsewhere.iterdir()) == []
    assert (out / "deep").stat().st_mode & 0o7777 == 0o701
    assert (out / "deep" / "b.bin").read_bytes() == (server.source / "deep" / "b.bin").read_bytes()


def test_in_place(server: Server, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(server.source, before, symlinks=True)
    (server.source / "deep").chmod(0o751)
    server.backup()
    (server.source / "a.txt").write_text("spoiled")
    shutil.rmtree(server.source / "deep")
    words = ("restore", f"latest:{server.source}", "--in-place", "--key", server.key_file)
    assert "there is no terminal for the answer: replace 2 files?" in server.fails(2, *words)
    assert (server.source / "a.txt").read_text() == "spoiled"
    server.done(*words, "--yes")
    assert (server.source / "a.txt").read_text() == "alpha\n"
    assert (server.source / "deep").stat().st_mode & 0o7777 == 0o751
    assert files_below(server.source) == files_below(before)
    assert "restore where?" in server.fails(2, "restore", "latest")
    assert "restore where?" in server.fails(2, "restore", "latest", "--in-place", "--target", tmp_path)


def test_delete_lists_asks_and_removes_what_was_listed_alone(server: Server, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    at = f"latest:{server.source}"
    restore(server, target=out, snapshot=at)
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (out / "away").symlink_to(elsewhere)
    (out / "deep" / "new").mkdir()
    (out / "deep" / "new" / "one").write_text("1")
    (out / "deep" / "kept.log").write_text("2")
    words = ("restore", at, "--target", out, "--key", server.key_file, "--delete", "--exclude", "*.log")
    told = server.json(*words, "--dry-run")
    assert [entry["path"] for entry in told["removed"]] == ["away", "deep/new/one", "deep/new"]
    said = server.fails(2, *words)
    assert "there is no terminal for the answer: remove 3 entries?" in said
    assert "would remove deep/new/one" in said
    assert (out / "deep" / "new" / "one").exists()
    assert server.json(*words, "--yes")["removed"] == 3
    assert files_below(out) == files_below(server.source) | {"deep/kept.log"}
    assert (elsewhere / "precious").exists()
    when = (server.source / "deep").stat().st_mtime_ns
    assert (out / "deep").stat().st_mtime_ns == when


def test_delete_stays_within_what_was_chosen_and_the_sources(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    restore(server, target=out)
    top = Path(f"{out}{server.source}")
    strangers = [out / "stranger", top.parent / "stranger", top / "stranger", top / "deep" / "stranger"]
    for path in strangers:
        path.write_text("x")
    restore(server, f"{server.source}/deep/er", "--delete", "--yes", target=out)
    assert all(path.exists() for path in strangers)
    restore(server, f"{server.source}/deep", "--delete", "--yes", target=out)
    assert [path.exists() for path in strangers] == [True, True, True, False]
    restore(server, "--delete", "--yes", target=out)
    assert [path.exists() for path in strangers] == [True, True, False, False]


def test_delete_in_place_spares_the_state_and_the_vault(server: Server) -> None:
    with server.config.open("a") as file:
        file.write(
            f'exclude = ["/{server.state.relative_to("/")}", "/{server.folder.relative_to("/")}/vault"]\n'
        )
    save_all_of(server)
    server.backup()
    (server.folder / "stray").write_text("x")
    server.done("restore", "latest", "--in-place", "--delete", "--yes", "--key", server.key_file)
    assert not (server.folder / "stray").exists()
    assert (server.state / "inventory.sqlite").exists()
    assert (server.folder / "vault" / "archives").exists()
    server.done("snapshots")


def test_delete_in_place_of_a_source_behind_a_symlink(server: Server, tmp_path: Path) -> None:
    """Where that leads now; and, once a directory is there, nothing of what others keep in that."""
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    server.source.rename(disk / "www")
    (disk / "beside").write_text("no source")
    link.symlink_to(disk)
    server.config.write_text(server.config.read_text().replace(str(server.source), str(link / "www")))
    server.backup()
    words = ("restore", "latest", "--in-place", "--delete", "--yes", "--key", server.key_file)
    (disk / "www" / "stray").write_text("x")
    assert "removed    1 entry" in server.done(*words).output
    assert sorted(path.name for path in disk.iterdir()) == ["beside", "www"]
    assert not (disk / "www" / "stray").exists()
    link.unlink()
    (link / "www").mkdir(parents=True)
    (link / "www" / "others").write_text("x")
    (disk / "www" / "stray").write_text("x")
    server.done(*words)
    assert (link / "www" / "others").exists()
    assert not (disk / "www" / "stray").exists()
    (disk / "www").rename(disk / "moved")
    (disk / "www").symlink_to(link / "www")
    server.run(*words)
    assert (link / "www" / "others").exists()


def test_nothing_is_removed_where_files_could_not_come(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    at = f"latest:{server.source}"
    restore(server, target=out, snapshot=at)
    (out / "stray").write_text("x")
    archives = [path for path in (server.folder / "vault" / "archives").rglob("*") if path.is_file()]
    for path in archives:
        data = path.read_bytes()
        path.write_bytes(
            data[:3000] + bytes(len(data) - 3000 - 16) + data[-16:] if len(data) > 4000 else data
        )
    words = ("restore", at, "--target", out, "--key", server.key_file, "--delete", "--yes")
    result = server.run(*words)
    assert result.exit_code != 0
    assert (out / "stray").exists()


@pytest.mark.parametrize("overwrite", [(), ("--overwrite", "if-changed")])
def test_what_stands_where_a_directory_comes_is_counted_and_asked_for(
    server: Server, tmp_path: Path, overwrite: tuple[str, ...]
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    restore(server, target=out, snapshot=f"latest:{server.source}")
    shutil.rmtree(out / "deep")
    (out / "deep").write_text("somebody's")
    words = ("restore", f"latest:{server.source}", "--target", out, "--key", server.key_file, *overwrite)
    count = 1 if overwrite else 3  # else a.txt and the link, too
    assert server.json(*words, "--dry-run")["replaced"] == count
    elsewhere.mkdir()
    (out / "deep").unlink()
    (out / "deep").symlink_to(elsewhere)
    assert server.json(*words, "--dry-run")["replaced"] == count
    assert server.json(*words, "--overwrite", "never", "--dry-run")["replaced"] == 0
    (out / "deep").unlink()
    assert server.json(*words, "--dry-run")["replaced"] == count - 1
    shutil.move(server.source / "deep", elsewhere / "deep")
    (server.source / "deep").write_text("somebody's")
    in_place = ("restore", f"latest:{server.source}", "--in-place", "--key", server.key_file, *overwrite)
    assert f"replace {'1 file' if overwrite else '3 files'}?" in server.fails(2, *in_place)
    assert (server.source / "deep").read_text() == "somebody's"


def test_another_vault_below_the_target_is_not_removed(server: Server, tmp_path: Path) -> None:
    """One that the config does not name, at a place that the snapshot has, and at one that it has not."""
    vaults = [server.source / "old", server.source / "deep" / "er" / "new"]
    vaults[0].mkdir()
    (vaults[0] / "nightvault-vault.json").write_text("{}")
    server.backup()
    (vaults[1] / "archives").mkdir(parents=True)
    shutil.copy(vaults[0] / "nightvault-vault.json", vaults[1])
    for vault in vaults:
        (vault / "archives" / "aa").mkdir(parents=True)
        (vault / "archives" / "aa" / "an archive").write_text("x")
    (server.source / "stray").write_text("x")
    server.done("restore", "latest", "--in-place", "--delete", "--yes", "--key", server.key_file)
    assert not (server.source / "stray").exists()
    assert all((vault / "archives" / "aa" / "an archive").exists() for vault in vaults)


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize(
    "place", ["vault", "vault/archives", "vault/new/deep", "state", "state/keys", "link/x"]
)
def test_nothing_is_restored_into_what_is_its_own(server: Server, place: str, delete: bool) -> None:
    """With --delete such a restore once removed all archives of the vault, and said that all went well."""
    (server.folder / "link").symlink_to(server.folder / "vault" / "archives")
    into, held = server.folder / place, files_below(server.folder)
    assert server.state == server.folder / "state"
    words = ("restore", f"latest:{server.source}", "--target", into, "--key", server.key_file)
    told = server.fails(1, *words, *(["--delete", "--yes"] if delete else []))
    what = "the state directory" if place.startswith("state") else "vault cold"
    how = "is" if place in {"vault", "state"} else "lies in"
    assert f"{into} {how} {what}, " in told.replace("\n", " ")
    assert server.fails(1, *words, "--dry-run")
    assert server.fails(
        1, "dump", f"latest:{server.source}/a.txt", "-o", into / "f", "--key", server.key_file
    )
    assert files_below(server.folder) == held


def save_all_of(server: Server) -> None:
    """Let the job save the server's whole folder, its own state and vault, too."""
    text = server.config.read_text().replace(
        f'"{server.source}"]', f'"{server.folder}"]\nexclude_own = false'
    )
    server.config.write_text(text)


def test_nothing_is_restored_in_place_into_what_is_its_own(server: Server) -> None:
    save_all_of(server)
    server.backup()
    held = files_below(server.folder / "vault")
    words = ("restore", f"latest:{server.folder}/vault/archives", "--in-place", "--delete", "--yes")
    assert "is vault cold" in server.fails(1, *words, "--key", server.key_file)
    assert files_below(server.folder / "vault") == held


def test_hard_links_that_became_copies_are_told(server: Server, tmp_path: Path) -> None:
    os.link(server.source / "a.txt", server.source / "deep" / "linked")
    server.backup()
    out, at = tmp_path / "out", f"latest:{server.source}"
    restore(server, target=out, snapshot=at)
    assert "hard links" not in restore(server, "--overwrite", "if-changed", target=out, snapshot=at)
    (out / "copy").write_bytes((out / "a.txt").read_bytes())
    shutil.copystat(out / "a.txt", out / "copy")
    (out / "copy").rename(out / "a.txt")
    told = restore(server, "--overwrite", "if-changed", target=out, snapshot=at)
    assert "2 names are hard links in the snapshot, and files of their own at the target" in told


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (("--exclude", "a.txt"), {"deep/er/third", "deep/linked"}),
        (("--exclude", "linked"), {"a.txt", "deep/er/third"}),
        (("--exclude", "er/"), {"a.txt", "deep/linked"}),
        (("**/thir*",), {"deep/er/third"}),
    ],
)
def test_hard_links_of_which_some_are_chosen(
    server: Server, tmp_path: Path, words: tuple[str, ...], there: set[str]
) -> None:
    """Whichever name is left out, the others have the content, and are one file."""
    names = {"a.txt", "deep/linked", "deep/er/third"}
    for name in names - {"a.txt"}:
        os.link(server.source / "a.txt", server.source / name)
    server.backup()
    out, at = tmp_path / "out", f"latest:{server.source}"
    restore(server, *words, target=out, snapshot=at)
    assert files_below(out) & names == there
    assert {(out / name).read_text() for name in there} == {"alpha\n"}
    assert {(out / name).stat().st_nlink for name in there} == {len(there)}
    tar = tmp_path / "out.tar"
    server.done("dump", at, *words, "--tar", "-o", tar, "--key", server.key_file)
    with tarfile.open(tar) as members:
        first, *more = [member for member in members.getmembers() if member.name in names]
        content = members.extractfile(first)
        assert content is not None
        assert content.read() == b"alpha\n"
    assert {first.name, *(member.name for member in more)} == there
    assert first.isreg()
    assert all(member.islnk() and member.linkname == first.name for member in more)


def test_hard_links_of_which_some_are_there_and_stay(server: Server, tmp_path: Path) -> None:
    """`--overwrite never`: what is new is one file, and what was there is none of it."""
    for name in ("deep/linked", "deep/er/third"):
        os.link(server.source / "a.txt", server.source / name)
    server.backup()
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("mine")
    restore(server, "--overwrite", "never", target=out, snapshot=f"latest:{server.source}")
    assert (out / "a.txt").read_text() == "mine"
    linked, third = out / "deep" / "linked", out / "deep" / "er" / "third"
    assert linked.read_text() == "alpha\n"
    assert linked.samefile(third)
    assert linked.stat().st_nlink == 2


def test_a_restore_in_place_leaves_its_own_state_and_vault_alone(server: Server) -> None:
    """After a disaster a whole machine is restored over the state that was rebuilt for it."""
    save_all_of(server)
    server.backup()
    kept = (server.state / "inventory.sqlite").stat().st_ino
    (server.state).chmod(0o711)
    (server.source / "a.txt").unlink()
    words = ("restore", "latest", "--in-place", "--key", server.key_file)
    told = server.json(*words, "--dry-run")
    assert told["kept"] > 2
    result = server.done(*words, "--yes")
    assert (server.source / "a.txt").read_text() == "alpha\n"
    assert (server.state / "inventory.sqlite").stat().st_ino == kept
    assert server.state.stat().st_mode & 0o777 == 0o711
    for place in (server.state, server.folder / "vault"):
        assert f"{place} is left as it is: nightvault itself uses it" in result.stderr.replace("\n", " ")
    assert len(server.json("snapshots")) == 2
    restore(server, target=server.folder / "elsewhere")
    assert (server.folder / "elsewhere" / server.state.relative_to("/") / "inventory.sqlite").exists()
