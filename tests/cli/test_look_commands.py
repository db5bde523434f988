"""snapshots, ls, runs, vaults, archives: what people see, on 80 columns, and what scripts read."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.cli.looking import vaults
from backup.errors import UnreachableError
from backup.model import ArchiveId, VaultState
from tests.support.doubles import ManualClock
from tests.support.servers import Server

LONG_ID = ArchiveId("NkbByEejwEggmBz2fTHgJrg0XBoDfjP4q6iu87-" + "x" * 99)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("snapshots", "no snapshots yet"),
        ("runs", "nothing was run yet"),
        ("archives", "no archives yet"),
        ("restores", "no restores"),
    ],
)
def test_where_there_is_nothing_yet(server: Server, words: str, said: str) -> None:
    assert server.done(words).stdout == said + "\n"
    assert server.json(words) == []


def test_snapshots(server: Server) -> None:
    first, second = server.backup(), server.backup()
    lines = server.done("snapshots").stdout.splitlines()
    assert lines[0].split() == ["snapshot", "job", "time", "files", "size", "problems", "host"]
    assert [line.split()[0] for line in lines[1:]] == [first["snapshot"][:8], second["snapshot"][:8]]
    document = server.json("snapshots")[0]
    assert set(document) == {
        "id", "job", "started_at", "finished_at", "host", "sources", "files", "bytes", "problems",
        "tags", "pin", "forgotten_at", "waits",
    }  # fmt: skip
    assert document["sources"] == [{"path": str(server.source)}]
    assert len(server.json("snapshots", "--job", "main")) == 2


def test_ls(server: Server) -> None:
    (server.source / "b\udcff\n").write_text("odd")
    os.mkfifo(server.source / "pipe")
    server.backup()
    at = f"latest:{server.source}"
    names = server.done("ls", at).stdout.splitlines()
    assert names == [f"{server.source}/{name}" for name in ("a.txt", "b\\xff\\x0a", "deep", "link", "pipe")]
    documents = {entry["path"].rpartition("/")[2]: entry for entry in server.json("ls", at)}
    assert {document["kind"] for document in documents.values()} == {"file", "directory", "symlink", "fifo"}
    assert set(documents["a.txt"]) == {
        "path", "kind", "mode", "uid", "gid", "user", "group", "mtime_ns", "size"
    }  # fmt: skip
    assert documents["a.txt"]["mtime_ns"] == (server.source / "a.txt").stat().st_mtime_ns
    assert documents["link"]["target"] == {"path": "deep/b.bin"}
    assert "path_b64" in documents["b\ufffd\n"]
    assert server.done("ls", f"{at}/a.txt").stdout == f"{server.source}/a.txt\n"
    deep = server.done("ls", "-r", f"{at}/deep").stdout.splitlines()
    assert deep == [f"{server.source}/deep/{name}" for name in ("b.bin", "er", "er/c.txt")]
    assert server.done("ls", "latest").stdout.splitlines() == ["/" + str(server.source).split("/")[1]]


def test_ls_long(server: Server) -> None:
    (server.source / "a.txt").chmod(0o640)
    server.backup()
    lines = server.done("ls", "-l", f"latest:{server.source}").stdout.splitlines()
    by_name = {line.split("/source/")[1]: line for line in lines}
    assert by_name["a.txt"].startswith("-rw-r----- ")
    assert " 6 B " in by_name["a.txt"]
    assert by_name["deep"].startswith("drwx")
    assert by_name["link -> deep/b.bin"].startswith("lrwxrwxrwx")


def test_runs_tell_errors_below_the_table(server: Server) -> None:
    server.backup()
    (server.folder / "vault").rename(server.folder / "away")
    (server.source / "new").write_text("new")
    server.fails(1, "backup")
    lines = server.on_terminal("runs")
    assert lines[0].split() == ["run", "kind", "job", "outcome", "began", "took", "files", "uploaded"]
    assert lines[1].split()[:4] == ["2", "backup", "main", "failed"]
    assert lines[2].split()[:4] == ["1", "backup", "main", "done"]
    assert lines[3].startswith("run 2: ")
    failed, done = server.json("runs")
    assert set(failed) == {
        "run", "kind", "job", "outcome", "dead", "started_at", "finished_at", "report", "problems"
    }  # fmt: skip
    assert "error" in failed["report"]
    assert done["report"]["snapshot"] == server.json("snapshots")[0]["id"]
    assert len(server.json("runs", "--limit", "1")) == 1
    assert len(server.json("runs", "--job", "main")) == 2


def test_a_long_run_took_its_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = server.clock
    assert isinstance(clock, ManualClock)
    real = clock.now
    moments = iter(range(10_000))
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(minutes=next(moments)))
    server.backup()
    assert " min " in server.done("runs").stdout


class Pretended:
    """A vault that says of itself what it is told to."""

    def __init__(self, state: VaultState | Exception) -> None:
        self._state = state

    def state(self) -> VaultState:
        if isinstance(self._state, Exception):
            raise self._state
        return self._state


def pretend(monkeypatch: pytest.MonkeyPatch, state: VaultState | Exception) -> None:
    monkeypatch.setattr(vaults, "open_vault", lambda *_: Pretended(state))


def test_vaults_on_80_columns(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.backup()
    arn = "arn:aws:glacier:eu-central-1:123456789012:vaults/nightvault-of-some-server"
    pretend(monkeypatch, VaultState(True, arn, 12, 3 << 30, ManualClock().now()))
    lines = server.on_terminal("vaults")
    assert lines[0].split() == ["vault", "archives", "size", "it", "counts", "as", "of", "where"]
    assert all(len(line) <= 80 for line in lines)
    place = lines[0].index("where")
    assert "".join(line[place:].strip() for line in lines[1:]) == arn
    (document,) = server.json("vaults")
    assert document == {
        "name": "cold", "kind": "directory", "archives": 2, "bytes": document["bytes"], "exists": True,
        "location": arn, "vault_archives": 12, "vault_bytes": 3 << 30, "listed_at": "2026-03-01T02:00:00Z",
    }  # fmt: skip


def test_a_vault_that_is_not_reached_does_not_hide_the_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, UnreachableError("cannot reach it", advice="wait"))
    result = server.run("vaults")
    assert result.exit_code == 15
    assert "not reached" in result.stdout
    assert "vault cold: cannot reach it" in result.stderr
    (document,) = server.json("vaults", exit_code=15)
    assert (document["error"], document["archives"]) == ("cannot reach it", 0)
    pretend(monkeypatch, VaultState(False, "somewhere"))
    assert "is not there" in server.done("vaults").stdout


def test_archives_on_80_columns(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.backup()
    monkeypatch.setattr("backup.inventory.content.archives.list_archives", with_long_ids())
    lines = server.on_terminal("archives")
    assert lines[0].split() == ["vault", "kind", "size", "state", "stored", "pack"]
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    documents = server.json("archives")
    shown = [line.split()[-1].rstrip("…") for line in lines[1:]]
    assert all(document["pack"].startswith(start) for document, start in zip(documents, shown, strict=True))
    assert min(map(len, shown)) >= 11
    wide = server.done("--wide", "archives").stdout
    assert all(document["pack"] in wide for document in documents)
    assert {document["archive_id"] for document in documents} == {LONG_ID}
    assert set(documents[0]) == {
        "vault", "kind", "generation", "catalog", "state", "size", "tree_hash", "pack", "archive_id", "run",
        "stored_at",
    }  # fmt: skip
    assert sorted(str(document["generation"]) for document in documents) == ["None", "full"]


def with_long_ids() -> Any:
    from msgspec.structs import replace

    from backup.inventory.content.archives import list_archives

    def listed(*args: Any, **options: Any) -> list[Any]:
        return [replace(archive, archive_id=LONG_ID) for archive in list_archives(*args, **options)]

    return listed


# A vault's own list.


def pass_time(server: Server, hours: float) -> None:
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(timedelta(hours=hours))


def test_a_list_and_what_it_lacks(server: Server, tmp_path: Path) -> None:
    assert server.done("listing", "request").stdout == "asked vault cold for its list\n"
    assert "the list is empty" in server.done("listing", "show").stdout
    server.backup()
    told = server.done("listing", "show")
    assert "; 2 of ours newer than the list" in told.stderr

    pass_time(server, 2)
    (data,) = (archive for archive in server.json("archives") if archive["kind"] == "data")
    for path in (tmp_path / "vault").rglob("*"):
        if path.is_file() and path.stat().st_size == data["size"]:
            path.unlink()
    server.done("listing", "request")
    result = server.run("listing", "show")
    assert result.exit_code == 1
    assert f"missing: {data['archive_id']}, stored 2026-03-01 02:00" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["ours"]
    document = server.json("listing", "show", exit_code=1)
    assert set(document) == {"vault", "as_of", "archives", "missing", "newer_than_list"}
    assert document["missing"] == [data["archive_id"]]
    assert set(document["archives"][0]) == {"archive_id", "description", "size", "created_at", "known"}


def test_archives_that_our_books_do_not_know(server: Server, tmp_path: Path) -> None:
    server.backup()
    for file in server.state.glob("inventory.sqlite*"):
        file.unlink()
    server.done("init", "--new-history")
    server.done("listing", "request")
    result = server.done("listing", "show")
    assert result.stdout.count("unknown") == 2
    assert {archive["known"] for archive in server.json("listing", "show")["archives"]} == {False}


def test_which_of_several_vaults(server: Server, tmp_path: Path) -> None:
    with server.config.open("a") as file:
        file.write(f'[[vault]]\nname = "second"\nkind = "directory"\npath = "{tmp_path}/second"\n')
    server.done("init")
    assert "which vault? cold, second" in server.fails(2, "listing", "request")
    assert server.json("listing", "request", "second")["vault"] == "second"
    assert server.json("listing", "show", "second")["archives"] == []
