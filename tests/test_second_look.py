"""Second look: what was tried after all else, for loss and for attack, and did not hold at first."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from backup.cli.support.keyfiles import read_key, read_passphrase_file
from backup.errors import RecoveryKeyError, UsageError
from tests.support.program_forks import run_command
from tests.support.servers import SCRIPT, TRACES, Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    return made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = " + "[" * 100_000 + "]" * 100_000, "nests lists or tables far too deep"),
        ("a = " + "9" * 10_000, "holds a number that is far too long"),
        ("#" * 2_000_000, "is far too large to be a config file"),
    ],
)
def test_a_config_that_is_a_bomb_is_named(server: Server, text: str, told: str) -> None:
    """Second look: nesting and long numbers were told as mistakes of nightvault."""
    server.config.write_text(text)
    assert told in server.fails(2, "snapshots")


def test_a_config_without_an_end_is_named(server: Server) -> None:
    """Second look: `/dev/zero` was read until no memory was left."""
    server.config.unlink()
    server.config.symlink_to("/dev/zero")
    assert "no regular file" in server.fails(2, "snapshots")


@pytest.mark.parametrize(
    "words",
    [("--config", "", "snapshots"), ("restore", "latest", "--target", ""), ("dump", "latest:/a", "-o", "")],
)
def test_an_empty_word_is_no_path(server: Server, words: tuple[str, ...]) -> None:
    """Second look: `--target "$UNSET"` wrote where one stood; `--config ""` took another config."""
    server.fails(2, *words)


@pytest.mark.no_cover
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["snapshots", "backup", "dump latest:/nothing", "nonsense"])
def test_closed_standard_handles_are_held_open(server: Server, closed: str, words: str) -> None:
    """Second look: a closed stdout was a traceback, and its number went to the next file that was opened."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" --config "$1" {words} {closed}', SCRIPT, server.config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not any(trace in done.stdout + done.stderr for trace in TRACES)
    assert done.returncode == {"snapshots": 0, "backup": 0}.get(words, 2)
    assert not list(server.state.glob("nightvault-crash-*"))


def test_what_a_command_prints_goes_into_no_file_of_ours(server: Server) -> None:
    """Second look: with stdout closed, its number must not mean the inventory or a pack to a hook."""
    told = server.folder / "told"
    with server.config.open("a") as config:
        config.write(f'[job.hooks]\nbefore = ["/bin/sh", "-c", "readlink /proc/$$/fd/1 > {told}"]\n')
    line = f'"{SCRIPT}" --config "{server.config}" backup >&- 2>&-'
    assert subprocess.run(["sh", "-c", line], check=False).returncode == 0
    assert str(server.folder) not in told.read_text().replace(str(told), "")


def test_bytes_that_are_no_text_in_a_damaged_inventory_are_told_as_damage(server: Server) -> None:
    """Second look: a schema with bytes that are no UTF-8 was told as a mistake of nightvault."""
    file = server.state / "inventory.sqlite"
    data = bytearray(file.read_bytes())
    at = data.index(b"CREATE TABLE owners")
    data[at : at + 12] = b"CREATE \xff\xfe\xa0\xf1\xff"
    file.write_bytes(data)
    assert "is damaged" in server.fails(1, "backup")
    assert "is damaged" in server.fails(1, "snapshots")


def test_the_spool_is_in_no_backup(server: Server) -> None:
    """Second look: with `/` as a source each run stored packs that it was making, and ended with 3."""
    (server.state / "spool" / "left").write_bytes(b"pack")
    text = server.config.read_text().replace(str(server.source), str(server.folder))
    server.config.write_text(text.replace("sources = [", f'exclude = ["{server.folder}/vault"]\nsources = ['))
    with server.config.open("a") as config:
        config.write("exclude_own = false\n")
    server.done("backup")
    found = {entry["path"] for entry in server.json("find", "*")}
    assert f"{server.state}/keys/signer" in found
    assert not [path for path in found if "/spool" in path]
    left = server.json("backup", "--dry-run", "--list")
    assert "own" in str(left)


@pytest.mark.usefixtures("heeding_hangups")
def test_a_terminal_that_is_closed_stops_a_backup_in_order(server: Server) -> None:
    """Second look: SIGHUP killed a run at once, so that `finally` never ran; it comes twice, too."""
    done, begun = server.folder / "finally", server.folder / "begun"
    with server.config.open("a") as config:
        config.write(f'[job.hooks]\nbefore = ["/bin/sh", "-c", "touch {begun}; sleep 1"]\n')
        config.write(f'finally = ["touch", "{done}"]\n')
    with server.process("backup") as process:
        for _ in range(600):
            if begun.exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert done.exists()


def test_who_is_to_ignore_a_hangup_does(server: Server) -> None:
    """Second look: `nohup nightvault backup` goes on."""
    begun = server.folder / "begun"
    with server.config.open("a") as config:
        config.write(f'[job.hooks]\nbefore = ["/bin/sh", "-c", "touch {begun}; sleep 1"]\n')
    words = ["nohup", SCRIPT, "--config", str(server.config), "backup"]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for _ in range(600):
            if begun.exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_nothing_is_writable_for_all_whatever_the_umask(server: Server, tmp_path: Path) -> None:
    """Second look: under umask 0 directories on the way to the state and to a target were everybody's."""
    moved = server.config.read_text().replace(str(server.state), f"{tmp_path}/new/below/state")
    moved = moved.replace(f"{server.folder}/vault", f"{server.folder}/vault2")
    server.config.write_text(moved)
    line = 'umask 0; "$0" --config "$1" init --key-file "$2" && "$0" --config "$1" backup && '
    line += '"$0" --config "$1" restore latest --target "$3/a/b/out" --key "$2"'
    done = subprocess.run(
        ["sh", "-c", line, SCRIPT, server.config, tmp_path / "key2", tmp_path],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in ("new", "new/below", "a", "a/b", "a/b/out"):
        assert not os.stat(tmp_path / path).st_mode & 0o002, path


@pytest.mark.parametrize("text", ["[" * 60_000, "[" * 100_000, "x" * 100_000])
def test_an_enrolment_that_is_a_bomb_is_named(server: Server, text: str) -> None:
    """Second look: `/dev/zero` was read until no memory was left, nesting was told as our mistake."""
    file = server.folder / "enrolment"
    file.write_text(text)
    server.fails(2, "key", "accept", file)
    server.fails(2, "key", "enroll", file, "--key", server.key_file)


@pytest.mark.parametrize("what", ["text", "fifo", "symlink"])
def test_a_recovery_file_that_is_something_else_stays(server: Server, what: str) -> None:
    """Second look: whatever `recovery_file` named was written over, devices too."""
    place = server.folder / "place"
    if what == "fifo":
        os.mkfifo(place)
    else:
        place.write_text("root:x:0:0:root:/root:/bin/sh\n")
    named = place
    if what == "symlink":
        named = server.folder / "named"
        named.symlink_to(place)
    text = server.config.read_text().replace("[state]\n", f'[state]\nrecovery_file = "{named}"\n')
    server.config.write_text(text)
    before = os.lstat(named)
    done = server.done("backup")
    assert f"could not be kept in {named}" in done.stderr
    assert os.lstat(named).st_ino == before.st_ino
    assert what == "fifo" or place.read_text().startswith("root:")


def test_a_recovery_file_that_is_empty_or_ours_is_written(server: Server) -> None:
    """Second look: an empty file, and one with lines under other words, are still ours to write."""
    place = server.folder / "place"
    place.touch()
    text = server.config.read_text().replace("[state]\n", f'[state]\nrecovery_file = "{place}"\n')
    server.config.write_text(text)
    server.done("backup")
    first = place.read_text()
    assert "NVL1," in first
    place.write_text("my words\n" + first)
    server.done("backup")
    assert place.read_text().count("NVL1,") == 1
    assert place.read_text() != first


def test_a_line_that_is_older_than_the_vault_is_told(server: Server) -> None:
    """Second look: a rebuild by an old line said nothing of the nights after it, nor did the next backup."""
    server.done("backup")
    old = server.folder / "old-lines"
    old.write_text((server.state / "recovery-lines.txt").read_text())
    (server.source / "later").write_text("later")
    server.done("backup")
    shutil.rmtree(server.state)
    report = server.json("rebuild", "--from", old, "--key", server.key_file, exit_code=3)
    assert [suspicion["kind"] for suspicion in report["suspicions"]] == ["newer"]
    assert "catalog 2" in report["suspicions"][0]["detail"]
    report = server.json("rebuild", "--set-aside", "--key", server.key_file)
    assert report["jobs"][0]["snapshots"] == 2
    shutil.rmtree(server.state)


def test_the_newest_line_is_told_nothing_of(server: Server) -> None:
    """Second look: neither deltas that it knows nor the full catalog after them are newer than a line."""
    server.done("backup")
    server.done("backup")
    lines = server.folder / "lines"
    lines.write_text((server.state / "recovery-lines.txt").read_text())
    shutil.rmtree(server.state)
    report = server.json("rebuild", "--from", lines, "--key", server.key_file)
    assert report["suspicions"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("how", ["theirs", "their link", "open"])
@pytest.mark.parametrize("words", [("web", "--listen", "127.0.0.1:0"), ("web", "user", "list")])
def test_accounts_that_another_user_made_are_not_used(
    server: Server, tmp_path: Path, how: str, words: tuple[str, ...]
) -> None:
    """Whoever may write beside the state directory put a folder of her own there, with an operator in it."""
    folder = Path(f"{server.state}-web")
    folder.mkdir()
    if how == "theirs":
        os.chown(folder, 4242, 4242)
    if how == "their link":
        folder.rename(tmp_path / "other")
        folder.symlink_to(tmp_path / "other")
        os.lchown(folder, 4242, 4242)
    if how == "open":
        folder.chmod(0o777)
    done = run_command(["--config", str(server.config), *words], os.environ, seconds=30)
    assert done.returncode != 0
    assert f"the directory of accounts {folder} is not used: " in done.stderr.decode()
    if not folder.is_symlink():
        assert not os.listdir(folder)


IDENTITY = '[identity]\ncertificate = "{pipe}"\nprivate_key = "/etc/hostname"\n'


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (IDENTITY, ("status",)),
        (IDENTITY, ("doctor",)),
        ('[prices]\nfile = "{pipe}"\n', ("prices",)),
    ],
)
def test_a_pipe_in_a_files_place_holds_nobody_up(
    server: Server, section: str, words: tuple[str, ...]
) -> None:
    """Status, doctor and every backup with a metrics file waited until somebody wrote into it."""
    pipe = server.folder / "pipe"
    os.mkfifo(pipe)
    server.config.write_text(section.format(pipe=pipe) + server.config.read_text())
    done = run_command(["--config", str(server.config), *words], os.environ, seconds=30)
    assert b"Traceback" not in done.stderr
    assert b"no regular file" in done.stdout + done.stderr
    with pytest.raises(RecoveryKeyError, match="no regular file"):
        read_key(str(pipe), None)
    with pytest.raises(UsageError, match="no regular file"):
        read_passphrase_file(str(pipe))
