"""`latest` where several jobs have snapshots: the path decides, or a sentence lists them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.servers import Server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Two jobs as the example config has them: /etc and /root, /home and /srv/www, below a folder."""
    made = Server(tmp_path)
    for name in ("etc/nginx", "root", "home/ann", "srv/www", "source"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file.conf").write_text(name)
    (tmp_path / "etc" / "fstab").write_text("/dev/sda1")
    vault = f'[[vault]]\nname = "cold"\nkind = "directory"\npath = "{tmp_path / "vault"}"\n'
    jobs = "".join(
        f'[[job]]\nname = "{name}"\nvault = "cold"\nsources = ["{tmp_path}/{first}", "{tmp_path}/{two}"]\n'
        for name, first, two in (("etc", "etc", "root"), ("home", "home", "srv/www"))
    )
    made.config.write_text(f'[state]\ndir = "{made.state}"\n{vault}{jobs}')
    made.init()
    made.done("backup")
    (tmp_path / "etc" / "fstab").write_text("/dev/sdb1")
    made.done("backup")
    return made


def test_the_readme_s_commands_work_with_the_example_config(server: Server) -> None:
    """README's "At 3 a.m." names no job, and needs none."""
    etc, out = f"{server.folder}/etc", server.folder / "out"
    assert f"{etc}/fstab" in server.done("ls", "-l", f"latest:{etc}").stdout
    server.done("find", "*.conf")
    server.done("versions", f"{etc}/fstab")
    assert "fstab" in server.done("diff", "latest~1", "latest", etc).stdout
    server.done("restore", f"latest:{etc}/nginx", "--target", out, "--dry-run")
    server.done("restore", f"latest:{etc}/nginx", "--target", out, "--key", server.key_file, "--wait")
    tar = ("dump", f"latest:{etc}", "--tar", "--key", server.key_file, "--wait", "-o", out / "etc.tar")
    server.done(*tar)
    words = ("restore", f"latest:{etc}", "*.conf", "--in-place", "--overwrite", "if-changed", "--yes")
    server.done(*words, "--key", server.key_file)


@pytest.mark.parametrize("place", ["home/ann", "srv/www/file.conf", "srv", "home/gone"])
def test_the_path_decides(server: Server, place: str) -> None:
    """What lies below a source, a directory above one, and what was deleted since."""
    told = server.run("ls", f"latest:{server.folder}/{place}")
    assert "of which job" not in told.stderr
    assert told.exit_code == (2 if "gone" in place else 0)


def test_further_paths_decide(server: Server) -> None:
    """`restore latest /a/path` has its path in another place; `find` in its pattern."""
    home, out = f"{server.folder}/home", server.folder / "out"
    newest = {snapshot["job"]: snapshot["id"] for snapshot in server.json("snapshots")}
    for place in (f"{home}/ann", f"{home}/*/file.*"):
        planned = server.json("restore", "latest", place, "--target", out, "--dry-run")
        assert (planned["snapshot"], planned["files"]) == (newest["home"], 1)
        assert planned["bytes"] == len("home/ann")
    found = server.json("find", f"{home}/**/*.conf", "--snapshot", "latest")
    assert [(version["path"], version["job"], version["last"]["id"]) for version in found] == [
        (f"{home}/ann/file.conf", "home", newest["home"])
    ]
    server.done("restore", "latest", f"{home}/ann", "--target", out, "--key", server.key_file, "--wait")
    assert [path.name for path in out.rglob("*.conf")] == ["file.conf"]
    assert next(out.rglob("*.conf")).read_text() == "home/ann"


def test_a_path_that_decides_nothing(server: Server) -> None:
    """One sentence lists the jobs with their newest snapshots."""
    newest = {snapshot["job"]: snapshot["id"][:8] for snapshot in server.json("snapshots")}
    for words in (["ls", "latest"], ["ls", f"latest:{server.folder}"], ["ls", "latest:/nowhere"]):
        told = server.fails(2, *words)
        for job, snapshot in newest.items():
            assert f"{job} ({snapshot}" in told
        assert "--job NAME" in told
    server.done("ls", "latest", "--job", "home")
    server.fails(2, "find", "*.conf", "--snapshot", "latest")


def test_the_one_that_has_it_is_preferred(server: Server) -> None:
    """Two jobs with the same source; only one has the entry, as the other leaves it out."""
    config = server.config.read_text()
    more = f'[[job]]\nname = "all"\nvault = "cold"\nsources = ["{server.folder}/etc"]\nexclude = ["nginx/"]\n'
    server.config.write_text(config + more)
    server.done("backup", "all")
    server.done("ls", f"latest:{server.folder}/etc/nginx")
    assert "of which job" in server.fails(2, "ls", f"latest:{server.folder}/etc/fstab")


def test_a_name_that_is_no_utf8(server: Server) -> None:
    """The sentence can be printed whatever the path is."""
    server.fails(2, "ls", os.fsdecode(b"latest:/\xff\x1b[2J"))
