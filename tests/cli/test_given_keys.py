"""A recovery key or passphrase that is given in the wrong place is never repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers import Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


def test_a_key_among_the_words(server: Server, tmp_path: Path) -> None:
    """Neither whole nor in pieces, wherever it stands, for people and for scripts."""
    from backup.format.keys import parse_key_file

    key = parse_key_file(server.key_file.read_bytes(), lambda: b"").to_text()
    pieces = key.split("-")[1:]
    spaced = key.replace("-", " ").replace("NVK1 ", "NVK1-").split()
    out = tmp_path / "out"
    for words in (
        ["restore", "latest", "--target", out, "--key", key],
        ["restore", "latest", "--target", out, "--key", key.lower()],
        ["dump", f"latest:{server.source}/a.txt", "--key", key],
        ["rebuild", "--set-aside", "--key", key],
        ["rebuild", key],
        ["restore", "latest", "--target", out, "--key", *spaced],
        ["restore", key, "--target", out],
        ["check", "--read-data", "1%", "--key", key],
        ["check", "--vault", key],
        ["key", "show", key],
        ["find", "--job", key, "x"],
        ["ls", key],
        ["find", key],
        [key],
    ):
        for more in ([], ["--json"], ["--verbose"]):
            result = server.run(*more, *words)
            assert result.exit_code in {1, 2, 12}, words
            told = result.output.upper()
            assert not [piece for piece in pieces if piece.upper() in told], (words, result.output)


def test_a_passphrase_instead_of_its_file(server: Server, tmp_path: Path) -> None:
    """What looks like no path is not repeated."""
    words = ("key", "generate", "--out", tmp_path / "x.key", "--passphrase-file", "hunter2 horse")
    told = server.fails(2, *words)
    assert "hunter2" not in told
    assert "/no/file" in server.fails(2, *words[:-1], "/no/file")
