"""Tables fit 80 columns: what matters least is cut, then left out; --wide shows all."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from backup.cli.render import render
from backup.cli.render.tables import Column
from tests.support.program_forks import place_command
from tests.support.servers import Server, directory_server

LONG = "a-job-with-a-name-of-sixty-four-letters-which-is-the-most-of-all"


def drawn(width: int, columns: list[object], rows: list[list[object]]) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, markup=False).print(render.table(columns, rows))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_least_important_is_cut_first_and_left_out_last() -> None:
    """Cut, then left out by rank, and said which."""
    columns: list[object] = [
        "id",
        Column("job", least=4),
        Column("host", rank=1, least=6),
        Column("size", rank=2),
    ]
    rows: list[list[object]] = [["12345678", "main-job", "web1.example.org", "1.5 MiB"]]
    assert len(drawn(80, columns, rows)) == 2
    cut = drawn(38, columns, rows)
    assert "web1.…" in cut[1] or "web1.exa" in cut[1]
    assert "1.5 MiB" in cut[1]
    out = drawn(28, columns, rows)
    assert "1.5 MiB" not in out[1]
    assert out[-1] == "(--wide shows: size)"
    least = drawn(16, columns, rows)
    assert least[1].startswith("12345678")
    assert "(--wide shows: host, size)" in " ".join(least)


def test_wide_letters_count_as_two() -> None:
    """What is cut in the middle of a wide letter still lines up."""
    lines = drawn(20, ["id", Column("name", least=8)], [["1", "日本語の長い名前です"], ["2", "e\u0301" * 30]])
    assert all(cell_len(line) <= 20 for line in lines)
    assert lines[1].endswith("…")


def test_what_folds_is_never_cut() -> None:
    """A path breaks its line rather than lose its end."""
    path = b"/srv/" + b"long-directory-name/" * 8
    lines = drawn(60, ["id", Column("below", folds=True)], [["1", path]])
    assert path.decode() == "".join(line[4:] for line in lines[1:])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A job of the longest name, in a vault of the longest name."""
    made = directory_server(tmp_path_factory.mktemp("tables"))
    place_command(made.folder / "nightvault")
    text = made.config.read_text()
    made.config.write_text(text.replace('"main"', f'"{LONG}"').replace('"cold"', f'"{LONG[::-1]}"'))
    made.init()
    made.done("backup")
    (made.source / "a.txt").write_text("changed")
    made.done("backup")
    made.done("restore", "latest", "--target", made.folder / "out", "--key", made.key_file)
    return made


def on_terminal(server: Server, *words: object, columns: int) -> list[str]:
    """What a terminal of so many columns is sent."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [server.folder / "nightvault", "--config", server.config, *map(str, words)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "dumb"},
    ) as process:
        os.close(slave)
        data = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            data += piece
        process.wait()
    os.close(master)
    return data.decode().replace("\r\n", "\n").splitlines()


TABLES: list[list[object]] = [
    ["snapshots"],
    ["archives"],
    ["runs"],
    ["stats"],
    ["stats", "--by", "job"],
    ["stats", "--by", "age"],
    ["restores", "--all"],
    ["vaults"],
    ["key", "status"],
]


@pytest.mark.parametrize("words", TABLES)
@pytest.mark.parametrize("columns", [80, 120])
def test_every_table_fits(server: Server, words: list[object], columns: int) -> None:
    """`archives` and all other tables, with the longest names."""
    lines = on_terminal(server, *words, columns=columns)
    assert lines
    assert max(cell_len(line) for line in lines) <= columns, "\n".join(lines)


def test_versions_and_listing_fit(server: Server) -> None:
    """Those that need another word before."""
    server.done("listing", "request")
    for words in (["listing", "show"], ["versions", server.source / "a.txt"]):
        lines = on_terminal(server, *words, columns=80)
        assert max(cell_len(line) for line in lines) <= 80, "\n".join(lines)


def test_wide_shows_all(server: Server) -> None:
    """All columns and whole cells, before or after the command's name; so does a pipe."""
    for words in (["--wide", "archives"], ["archives", "--wide"]):
        assert LONG[::-1] in "\n".join(on_terminal(server, *words, columns=80))
    assert LONG in server.done("snapshots").stdout
    assert "(--wide" not in server.done("archives").stdout


def test_a_table_imports_no_more_than_it_needs() -> None:
    """Listing names of commands stays quick: rich comes with the first table."""
    code = "import sys, backup.cli.render.render; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
