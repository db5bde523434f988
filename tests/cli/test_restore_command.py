"""`nightvault restore` from a vault that does not wait: words, plans, targets, and what is left of a job."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support.servers import Server, directory_server
from tests.support.trees import assert_same_tree


def test_the_report(server: Server, tmp_path: Path) -> None:
    server.backup()
    words = ("restore", "latest", "--key", server.key_file, "--target")
    lines = server.done(*words, tmp_path / "one").stdout.splitlines()
    assert lines[0].endswith(f" restored below {tmp_path}/one")
    assert lines[1].startswith("  wrote      4 files and ")
    assert " retrieved  " in lines[2]
    assert " took       " in lines[3]
    report = server.json(*words, tmp_path / "two")
    assert set(report) == {
        "restore", "snapshot", "target", "outcome", "waiting", "retrievals", "files", "directories", "bytes",
        "retrieved", "fetched", "kept", "removed", "verified", "seconds", "problems", "warnings", "vaults",
        "expected_at",
    }  # fmt: skip
    assert report["target"] == {"path": f"{tmp_path}/two"}
    assert (report["outcome"], report["waiting"], report["problems"]) == ("done", 0, [])
    assert_same_tree(Path(f"{tmp_path}/two{server.source}"), server.source)
    assert [run["kind"] for run in server.json("runs")] == ["restore", "restore", "backup"]


def test_a_plan_asks_for_nothing_and_needs_no_key(server: Server, tmp_path: Path) -> None:
    report = server.backup()
    words = ("restore", "latest", "--target", tmp_path / "out", "--dry-run")
    text = server.done(*words).stdout
    assert f"would restore 4 files, 74.2 KiB, from / of snapshot {report['snapshot'][:8]}\n" in text
    assert " in 1 retrieval from 1 archive\n" in text
    plan = server.json(*words)
    assert set(plan) == {
        "snapshot", "files", "bytes", "retrieved", "retrievals", "prices", "currency", "quotes", "kept",
        "replaced", "removed", "vaults", "elsewhere",
    }  # fmt: skip
    (quote,) = plan["quotes"]
    assert (quote["retrieved"], quote["cost"]["total"], plan["prices"]) == (plan["retrieved"], "0", None)
    assert "would cost nothing" in text
    assert set(plan["retrievals"][0]) == {"archive", "start", "end"}
    assert not (tmp_path / "out").exists()
    assert [run["kind"] for run in server.json("runs")] == ["backup"]


def test_a_relative_target_counts_from_here(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.backup()
    monkeypatch.chdir(tmp_path)
    path = f"latest:{server.source}/deep"
    server.done("restore", path, "--target", "here", "--key", server.key_file)
    assert_same_tree(tmp_path / "here", server.source / "deep")


def test_what_is_nothing_but_names_needs_no_key(server: Server, tmp_path: Path) -> None:
    (server.source / "empty").mkdir()
    server.backup()
    server.done("restore", f"latest:{server.source}/empty", "--target", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_snapshots_of_a_job_that_the_config_no_longer_has(server: Server, tmp_path: Path) -> None:
    server.backup()
    server.config.write_text(server.config.read_text().partition("[[job]]")[0])
    restored = server.restore(tmp_path / "out")
    assert_same_tree(restored, server.source)


@pytest.mark.parametrize("below", [["a file", "x"], ["new", "er", "x" * 256]], ids=["a file", "too long"])
def test_a_target_that_cannot_be_used_leaves_nothing_open(
    server: Server, tmp_path: Path, below: list[str]
) -> None:
    """Its snapshot could not be forgotten for it, and the daemon told of it for ever."""
    server.backup()
    (tmp_path / "a file").write_text("in the way")
    before = sorted(tmp_path.iterdir())
    target = tmp_path.joinpath(*below)
    told = server.fails(1, "restore", "latest", "--key", server.key_file, "--target", target)
    assert f"the target {target} cannot be used: " in told
    assert sorted(tmp_path.iterdir()) == before, "also what was made on the way to it is gone"
    assert server.json("restores", "--all") == []
    assert list((server.state / "restores").glob("*")) == []
    assert [run["kind"] for run in server.json("runs")] == ["backup"]
    snapshot = server.json("snapshots")[0]["id"]
    server.backup()
    server.done("forget", snapshot)


def test_a_target_that_was_made_goes_again_where_nothing_is_begun(server: Server, tmp_path: Path) -> None:
    server.backup()
    wrong = tmp_path / "wrong.key"
    server.done("key", "generate", "--out", wrong)
    (tmp_path / "there").mkdir()
    for place in ("new/er", "there/new", "there"):
        server.fails(12, "restore", "latest", "--key", wrong, "--target", tmp_path / place)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
    assert server.json("restores", "--all") == []


def test_which_of_several_jobs(server: Server, tmp_path: Path) -> None:
    with server.config.open("a") as file:
        file.write(f'[[job]]\nname = "deep"\nvault = "cold"\nsources = ["{server.source}/deep"]\n')
    server.done("backup")
    words = ("restore", "latest", "--key", server.key_file, "--target", tmp_path / "out")
    told = server.fails(2, *words)
    assert "deep (" in told
    assert "main (" in told
    assert "--job NAME" in told
    server.done(*words, "--job", "deep")
    assert not Path(f"{tmp_path}/out{server.source}/a.txt").exists()
    assert_same_tree(Path(f"{tmp_path}/out{server.source}/deep"), server.source / "deep")


def test_words_of_restore_and_their_help(server: Server) -> None:
    text = server.done("restore", "--help").stdout
    assert "restore resume" in text
    assert "restore cancel" in text
    assert "--key FILE|-" in server.done("restore", "--help").stdout
    assert "Stay until the vault is ready" in server.done("restore", "resume", "--help").stdout


def test_a_restore_of_a_partial_snapshot_says_what_it_lacks(server: Server, tmp_path: Path) -> None:
    folder = server.folder
    text = server.config.read_text()
    both = f'sources = ["{server.source}", "{folder}/away", "{folder}/gone"]'
    server.config.write_text(text.replace(f'sources = ["{server.source}"]', both))
    assert server.run("backup").exit_code == 3
    words = ("restore", "--key", server.key_file, "--target", tmp_path / "out", "--yes")
    (warning,) = server.json(*words, "latest")["warnings"]
    assert "is partial, and so is this restore: when it was made, 2 paths could not be saved" in warning
    assert f"{folder}/away: " in warning
    assert f"{folder}/gone: " in warning
    (warning,) = server.json(*words, "latest", "--include", "a.txt")["warnings"]
    for part in (server.source, server.source / "deep"):
        assert server.json(*words, f"latest:{part}")["warnings"] == []
    assert "2 paths could not be saved" in " ".join(server.done(*words, "latest", "--dry-run").stderr.split())
    in_place = ("restore", "latest", "--in-place", "--key", server.key_file, "--yes")
    (warning,) = server.json(*in_place)["warnings"]
    assert server.json(*in_place[:1], f"latest:{server.source}", *in_place[2:])["warnings"] == []
    dumped = server.done(
        "dump", f"latest:{folder}", "--tar", "-o", tmp_path / "tar", "--key", server.key_file
    )
    assert "is partial" in dumped.stderr
    server.config.write_text(text)
    server.backup()
    os.mknod(server.source / "socket", stat.S_IFSOCK | 0o600)  # skipped: all that was asked for is saved
    server.backup()
    assert server.json(*words, "latest")["warnings"] == []


def test_a_damaged_archive_is_a_problem_with_a_name(server: Server, tmp_path: Path) -> None:
    server.backup()
    (data,) = [archive for archive in server.json("archives") if archive["kind"] == "data"]
    found = (path for path in (tmp_path / "vault").rglob("*") if path.is_file())
    (file,) = (path for path in found if path.stat().st_size == data["size"])
    bytes_there = bytearray(file.read_bytes())
    bytes_there[len(bytes_there) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(bytes_there)
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", server.key_file)
    report = server.json(*words, exit_code=3)
    assert report["outcome"] == "partial"
    assert {problem["kind"] for problem in report["problems"]} == {"damaged"}
    assert {problem["path"].rpartition("/")[2] for problem in report["problems"]} <= {
        "a.txt",
        "b.bin",
        "c.txt",
    }
    assert (Path(f"{tmp_path}/out{server.source}") / "link").is_symlink()


def test_an_archive_that_was_cut_short_leaves_the_rest(server: Server, tmp_path: Path) -> None:
    """Exit code 3, its files named; later only what is missing is retrieved."""
    server.backup()
    (server.source / "later").write_bytes(b"of another archive")
    server.backup()
    archives = tmp_path / "vault" / "archives"
    (cut,) = [path for path in archives.rglob("*") if path.suffix != ".json" and path.stat().st_size > 70_000]
    data = cut.read_bytes()
    cut.write_bytes(data[:1000])
    words = ("restore", f"latest:{server.source}", "--key", server.key_file, "--target", tmp_path / "out")
    report = server.json(*words, exit_code=3)
    assert report["outcome"] == "partial"
    named = {problem["path"] for problem in report["problems"]}
    assert named
    assert {problem["kind"] for problem in report["problems"]} == {"damaged"}
    assert (tmp_path / "out" / "later").read_bytes() == b"of another archive"
    assert server.json("restores") == [], "it is over"
    assert "--overwrite if-changed" in server.fails(2, "restore", "resume", report["restore"])
    cut.write_bytes(data)
    again = server.json(*words, "--overwrite", "if-changed")
    assert (again["files"], again["problems"]) == (len(named), [])
    assert_same_tree(tmp_path / "out", server.source)


def test_another_restore_into_the_same_place_is_named(tmp_path: Path) -> None:
    """The same command without, then with --verify: both would go on."""
    server = directory_server(tmp_path)
    server.init()
    server.backup()
    vault, away = server.folder / "vault", server.folder / "away"
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", server.key_file)
    vault.rename(away)
    server.run(*words)
    (first,) = server.json("restores")
    away.rename(vault)
    said = " ".join(server.done(*words, "--verify").stderr.split())
    assert f"restore {first['id']} into the same place is open, too" in said
    again = server.done(*words)  # the very same: it goes on
    assert "open, too" not in again.stderr
    (job,) = server.json("status", exit_code=1)["jobs"]
    assert job["proven"]["last_opened"], "what was read back was opened with the recovery key"
    assert server.json("restores") == []


def test_a_restore_that_failed_says_that_it_goes_on(tmp_path: Path) -> None:
    """The daemon asks for what is missing, and may pay for it."""
    server = directory_server(tmp_path)
    server.init()
    server.backup()
    vault = server.folder / "vault"
    vault.rename(server.folder / "away")
    shown = server.run("restore", "latest", "--target", tmp_path / "out", "--key", server.key_file)
    assert shown.exit_code not in {0, 17}
    (left,) = server.json("restores")
    assert f"restore {left['id']} is recorded: a daemon goes on with it" in " ".join(shown.stderr.split())
    (server.folder / "away").rename(vault)
    server.done("restore", "cancel", left["id"])
    assert server.json("restores") == []
