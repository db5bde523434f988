"""find, versions, diff, --at: what people ask before they restore, over several snapshots."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.cli.looking.find import part_of_names
from backup.source.patterns import of_name_or_path
from tests.support.doubles import ManualClock
from tests.support.servers import Server


def later(server: Server, **span: float) -> None:
    assert isinstance(server.clock, ManualClock)
    server.clock.sleep(timedelta(**span).total_seconds())


@pytest.fixture
def history(server: Server) -> tuple[Server, list[dict[str, Any]]]:
    """Three snapshots a day apart: a file changes twice, one goes, one comes, one gets another mode."""
    source = server.source
    (source / "notes.txt").write_text("one")
    (source / "going").write_text("soon gone")
    reports = [server.backup()]
    later(server, days=1)
    (source / "notes.txt").write_text("two two")
    (source / "going").unlink()
    (source / "b\udcff\x1b[31m").write_text("odd")
    reports.append(server.backup())
    later(server, days=1)
    (source / "a.txt").chmod(0o640)
    (source / "going").mkdir()
    reports.append(server.backup())
    return server, reports


def names(server: Server, documents: list[dict[str, Any]]) -> list[str]:
    return [document["path"].removeprefix(f"{server.source}/") for document in documents]


def test_find_tells_every_version_and_where_it_is(history: tuple[Server, list[dict[str, Any]]]) -> None:
    server, reports = history
    found = server.json("find", "notes.txt")
    assert [
        (version["size"], version["first"]["id"], version["last"]["id"], version["snapshots"])
        for version in found
    ] == [
        (3, reports[0]["snapshot"], reports[0]["snapshot"], 1),
        (7, reports[1]["snapshot"], reports[2]["snapshot"], 2),
    ]
    assert [version["size"] for version in server.json("find", "notes.txt", "--newest")] == [7]
    assert [version["size"] for version in server.json("find", "notes.txt", "--oldest")] == [3]
    assert [version["size"] for version in server.json("find", "notes.txt", "--snapshot", "latest~2")] == [3]
    assert [version["kind"] for version in server.json("find", "going")] == ["file", "directory"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.TXT", []),
        ("[a-b].txt", ["a.txt"]),
        ("?.txt", ["a.txt", "deep/er/c.txt"]),
        ("deep/**/*.txt", ["deep/er/c.txt"]),
        ("er/*", ["deep/er/c.txt"]),
        ("/er/*", []),
        ("b*31m", ["b\ufffd\x1b[31m"]),
        ("b?\x1b[[]31m", ["b\ufffd\x1b[31m"]),
    ],
)
def test_patterns_of_find(
    history: tuple[Server, list[dict[str, Any]]], pattern: str, found: list[str]
) -> None:
    server, _ = history
    got = server.json("find", "--snapshot", "latest", pattern, exit_code=0 if found else 1)
    assert sorted(names(server, got)) == found


def test_find_as_lines(history: tuple[Server, list[dict[str, Any]]]) -> None:
    server, reports = history
    title, line = server.done("find", "b*31m").stdout.splitlines()
    assert title.split() == ["first", "last", "snapshots", "size", "changed", "path"]
    assert line.startswith(f"{reports[1]['snapshot'][:8]}  {reports[2]['snapshot'][:8]}")
    assert line.endswith(f"{server.source}/b\\xff\\x1b[31m")
    assert title.index("path") == line.index(str(server.source))
    assert "try '*a.tx*'" in server.run("find", "a.tx").stderr
    assert names(server, server.json("find", "-i", "A.TXT", "--newest")) == ["a.txt"]


def test_find_in_two_jobs(history: tuple[Server, list[dict[str, Any]]]) -> None:
    """Each job's name stands above what it has; where only one was searched, nobody asks which."""
    server, reports = history
    with server.config.open("a") as file:
        file.write(f'[[job]]\nname = "deep"\nvault = "cold"\nsources = ["{server.source}/deep"]\n')
    deep = server.json("backup", "deep")[0]["snapshot"]
    lines = server.done("find", "c.txt").stdout.splitlines()
    heads = [line for line in lines if line.startswith("job ")]
    assert lines[1::2] == heads == ["job main:", "job deep:"]
    assert [line[:8] for line in lines[2::2]] == [reports[0]["snapshot"][:8], deep[:8]]
    assert server.done("find", "notes.txt").stdout.splitlines()[1] == "job main:"
    assert "job " not in server.done("find", "c.txt", "--job", "deep").stdout
    assert "job " not in server.done("find", "c.txt", "--snapshot", deep).stdout


def test_h_beside_other_letters_of_ls_is_no_help(history: tuple[Server, list[dict[str, Any]]]) -> None:
    server, _ = history
    assert server.done("ls", "-lh", "latest").stdout == server.done("ls", "-l", "latest").stdout
    assert server.done("ls", "-h").stdout.startswith("Usage: nightvault ls ")


def test_versions_of_one_file(history: tuple[Server, list[dict[str, Any]]]) -> None:
    server, reports = history
    told = server.json("versions", server.source / "notes.txt")
    assert [(version["size"], version["change"]) for version in told] == [(3, "new"), (7, "content")]
    assert [version["change"] for version in server.json("versions", server.source / "a.txt")] == [
        "new",
        "mode",
    ]
    assert [version["change"] for version in server.json("versions", server.source / "going")] == [
        "new",
        "back",
    ]
    text = server.done("versions", server.source / "notes.txt").stdout.splitlines()
    assert [line.split()[0] for line in text[1:]] == [report["snapshot"][:8] for report in reports[:2]]
    assert text[0].split() == ["first", "since", "last", "size", "modified", "change"]
    assert max(map(len, text)) <= 80
    said = server.fails(2, "versions", server.source / "note.txt")
    assert f"did you mean {server.source}/notes.txt, " in said


def test_diff(history: tuple[Server, list[dict[str, Any]]]) -> None:
    server, reports = history
    document = server.json("diff", "latest~2", "latest~1")
    assert (document["from"], document["to"]) == (reports[0]["snapshot"], reports[1]["snapshot"])
    told = {change["path"].rpartition("/")[2]: change for change in document["changes"]}
    assert {name: change["what"] for name, change in told.items()} == {
        "notes.txt": "changed", "going": "removed", "b\ufffd\x1b[31m": "added",
    }  # fmt: skip
    assert (told["notes.txt"]["size_before"], told["notes.txt"]["size_after"]) == (3, 7)
    assert document["summary"] == {
        "added": 1, "removed": 1, "changed": 1, "metadata": 0, "kind": 0,
        "bytes_added": 10, "bytes_removed": 12,
    }  # fmt: skip
    back = server.json("diff", "latest~1", "latest~2")
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    assert [change["what"] for change in back["changes"]] == [
        turned[change["what"]] for change in document["changes"]
    ]
    lines = server.done("diff", "latest~2", "latest", server.source).stdout.splitlines()
    assert [line[0] for line in lines] == ["U", "+", "T", "M"]
    assert lines[0].endswith("a.txt  (mode)")
    assert server.json("diff", "latest", "latest")["changes"] == []
    assert [
        change["what"]
        for change in server.json("diff", "latest~2", "latest", server.source / "notes.txt")["changes"]
    ] == ["changed"]
    assert "did you mean" in server.fails(2, "diff", "latest~2", "latest", server.source / "note.txt")


def test_diff_of_two_jobs(history: tuple[Server, list[dict[str, Any]]]) -> None:
    server, reports = history
    with server.config.open("a") as file:
        file.write(f'[[job]]\nname = "deep"\nvault = "cold"\nsources = ["{server.source}/deep"]\n')
    other = server.json("backup", "deep")[0]
    told = server.json("diff", other["snapshot"], reports[2]["snapshot"], server.source)
    assert {change["what"] for change in told["changes"]} == {"added"}
    assert not [change for change in told["changes"] if "/deep/" in change["path"]]


def test_a_point_in_time(history: tuple[Server, list[dict[str, Any]]], tmp_path: Path) -> None:
    server, reports = history
    first = server.json("snapshots")[0]["started_at"]
    at = f"latest:{server.source}/notes.txt"
    for moment, size in ((first, 3), (first.replace("Z", "+00:00"), 3), (first[:10], 3), ("2999-01-01", 7)):
        assert [entry["size"] for entry in server.json("ls", at, "--at", moment)] == [size]
    assert "there is no snapshot as old" in server.fails(2, "ls", at, "--at", "1999-01-01 03:00")
    assert "no time that can be read" in server.fails(2, "ls", at, "--at", "someday")
    assert "which of the two" in server.fails(2, "ls", reports[0]["snapshot"], "--at", first)


def test_long_lists(history: tuple[Server, list[dict[str, Any]]]) -> None:
    server, _ = history
    os.utime(server.source / "a.txt", ns=(2**62, 2**62))
    server.backup()
    lines = server.done("ls", "-l", f"latest:{server.source}").stdout.splitlines()
    assert lines[0].startswith("-rw-r-----")
    assert "link -> deep/b.bin" in "\n".join(lines)
    assert "\x1b" not in "".join(lines)
    assert f"did you mean {server.source}/deep?" in server.fails(2, "ls", f"latest:{server.source}/deeep/x")
    assert f"write latest:{server.source}" in server.fails(2, "ls", server.source)


LETTERS = st.sampled_from([*"aKksS*?[]%_\\/.-é", "\N{LATIN SMALL LETTER LONG S}", "İ", "**"])


@settings(max_examples=300, deadline=None)
@given(st.lists(LETTERS, min_size=1, max_size=5), st.lists(LETTERS, min_size=1, max_size=5), st.booleans())
def test_the_database_lets_no_name_out_that_a_pattern_matches(
    pattern: list[str], name: list[str], ignores_case: bool
) -> None:
    """It looks for a part of the pattern in any case, before the pattern itself is tried."""
    glob, called = "".join(pattern), "".join(name).replace("/", "")
    names = part_of_names(glob, ignores_case=ignores_case)
    itself = glob.rpartition("/")[2]  # each wildcard matches itself
    for text in {called, itself, itself.swapcase(), itself.replace("*", "xyz").replace("?", "é")} - {""}:
        if names and of_name_or_path(glob, ignores_case=ignores_case)(b"/a", text.encode()):
            with closing(sqlite3.connect(":memory:")) as database:
                sql = "SELECT CAST(? AS TEXT) LIKE ? ESCAPE '\\'"
                assert database.execute(sql, (text.encode(), names)).fetchone() == (1,)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.key", "%.key%"),
        ("a?long_one*", "%long\\_one%"),
        ("/etc/**/fstab", "%fstab%"),
        ("/etc/**", None),
        ("[ab]c", None),
        ("*", None),
    ],
)
def test_the_part_of_a_pattern_that_the_database_looks_for(pattern: str, names: str | None) -> None:
    assert part_of_names(pattern, ignores_case=False) == names
