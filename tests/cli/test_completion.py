"""Completion: what each word may become, in the program and in real shells; read-only, quick, and silent."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from backup.cli.support.shells import SHELLS, script_for
from tests.support.program_forks import run_command
from tests.support.servers import SCRIPT, Server, directory_server

ODD = "odd b/f:1=2 'x'.txt"
TITLE = "esc\x1b]0;pwn\x07"  # sets the title of a terminal that prints it


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    made = directory_server(tmp_path_factory.mktemp("completion"))
    path = made.source / ODD
    path.parent.mkdir(parents=True)
    path.write_text("odd")
    (made.source / "new\nline").touch()
    (made.source / os.fsdecode(b"bytes\xff")).touch()
    (made.source / TITLE).touch()
    made.init()
    made.backup()
    return made


def environment(server: Server, **more: str) -> dict[str, str]:
    """A user's, with this nightvault in the path."""
    return {
        "PATH": f"{os.path.dirname(SCRIPT)}:/usr/bin:/bin",
        "HOME": str(server.folder),
        "NIGHTVAULT_CONFIG": str(server.config),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        **more,
    }


def completed(server: Server, line: str, **more: str) -> list[tuple[str, str]]:
    """The types and words that the program offers for a line, by the protocol of fish."""
    wanted = environment(server, _NIGHTVAULT_COMPLETE="fish_complete", _NIGHTVAULT_LINE=line, **more)
    done = run_command([], wanted)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    return [(kind, word) for kind, word, _ in (line.split("\t") for line in lines if line)]


def words(server: Server, line: str) -> list[str]:
    return [word for _, word in completed(server, line)]


def test_commands_and_options(server: Server) -> None:
    assert words(server, "nightvault vers") == ["versions", "version"]
    assert words(server, "nightvault key a") == ["accept"]
    assert words(server, "nightvault restore --targ") == ["--target"]
    assert "dry-run" in "".join(words(server, "nightvault backup --"))


def test_jobs_and_vaults(server: Server) -> None:
    (job,), (vault,) = server.json("config", "check")["jobs"], server.json("config", "check")["vaults"]
    for line in ("backup ", "snapshots --job ", "sudo nightvault backup ", "--json backup ", "forget "):
        assert job["name"] in words(server, line if "nightvault" in line else f"nightvault {line}")
    assert words(server, "nightvault prune --vault ") == [vault["name"]]


def test_snapshots_and_the_paths_in_them(server: Server) -> None:
    snapshot = server.json("snapshots")[0]["id"][:8]
    assert words(server, "nightvault ls ") == ["latest", snapshot]
    assert words(server, f"nightvault restore {snapshot[:3]}") == [snapshot]
    for name in ("latest", snapshot):
        found = completed(server, f"nightvault ls {name}:{server.source}/od")
        assert found == [("more", f"{name}:{server.source}/odd b/")]
    inside = f"latest:{server.source}/odd\\ b/"
    assert completed(server, f"nightvault dump {inside}") == [("plain", f"latest:{server.source}/{ODD}")]
    assert words(server, f"nightvault versions {server.source}/odd\\ ") == [f"{server.source}/odd b/"]
    assert words(server, f"nightvault ls latest~1:{server.source}/") == [], "there is one snapshot alone"
    assert not [word for word in words(server, f"nightvault ls latest:{server.source}/") if "new" in word]


def test_names_that_are_no_text_are_left_out_and_the_others_are_offered(server: Server) -> None:
    found = words(server, f"nightvault ls latest:{server.source}/")
    assert f"latest:{server.source}/odd b/" in found
    assert not [word for word in found if "bytes" in word]
    assert not list(server.state.rglob("crash*"))


def test_zsh_is_told_to_show_nothing_that_commands_the_terminal(server: Server) -> None:
    wanted = environment(
        server,
        _NIGHTVAULT_COMPLETE="zsh_complete",
        _NIGHTVAULT_LINE=f"nightvault ls latest:{server.source}/e",
    )
    done = run_command([], wanted)
    assert done.returncode == 0
    ((_, word, shown),) = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert word == f"latest:{server.source}/{TITLE}"
    assert "pwn" in shown
    assert shown.isprintable()


def test_files_are_the_shells_own_business(server: Server) -> None:
    assert completed(server, "nightvault restore latest --target /m") == [("dir", "/m")]
    assert completed(server, "nightvault key show r") == [("file", "r")]


@pytest.mark.parametrize("spoil", ["no config", "not toml", "no inventory", "no database", "denied"])
def test_mistakes_are_silent(spoil: str, tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    if spoil == "no config":
        server.config.unlink()
    elif spoil == "not toml":
        server.config.write_text("[[[")
    elif spoil == "no database":
        server.state.mkdir(exist_ok=True)
        (server.state / "inventory.sqlite").write_text("not a database" * 100)
    elif spoil == "denied":
        server.init()
        shutil.rmtree(server.state)
        server.state.write_text("a file in the place of the directory")
    assert [word for word in words(server, "nightvault ls ") if word != "latest"] == []
    assert words(server, "nightvault ls latest:/") == []


def test_a_look_changes_nothing(server: Server) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in server.state.iterdir()}

    before = state()
    assert words(server, "nightvault ls latest:/")
    assert state() == before


# Real shells.


def typed(shell: Sequence[str], server: Server, *keys: str) -> str:
    """What a terminal shows once these keys were typed; a pause after each lets the shell answer."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(shell[0], list(shell), environment(server, PS1="$ ", COLUMNS="500"))
    shown = b""
    try:
        for key in keys:
            os.write(terminal, key.encode())
            until = time.monotonic() + 15
            quiet = 0
            while time.monotonic() < until and quiet < 12:
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 65536)
                    quiet = 0
                else:
                    quiet += 1
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return shown.decode(errors="replace").replace("\x1b[?2004l", "").replace("\x07", "")


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_a_path_of_a_snapshot(shell: str, server: Server) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    script = server.folder / f"completion.{shell}"
    script.write_text(script_for(shell))
    begin = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    load = f". {script}\n" if shell == "bash" else f"autoload -U compinit; compinit -D; . {script}\n"
    shown = typed(begin, server, load, f"nightvault ls lat\t:{server.source}/od\t", "\t")
    assert f"nightvault ls latest:{server.source}/odd\\ b/f:1=2\\ \\'x\\'.txt " in shown, shown


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not here")
def test_fish_completes_a_path_of_a_snapshot(server: Server) -> None:
    script = server.folder / "completion.fish"
    script.write_text(script_for("fish"))
    ask = f'source {script}; complete -C "nightvault ls latest:{server.source}/od"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask],
        env=environment(server),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert found == [f"latest:{server.source}/odd b/"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell: str, server: Server) -> None:
    assert server.done("completion", shell).stdout == script_for(shell)
    assert server.json("completion", shell) == {"shell": shell, "script": script_for(shell)}
    assert "%(" not in script_for(shell)


def test_no_command_needs_the_database_to_be_completed() -> None:
    """SQLAlchemy takes longer to import than anybody waits for a word."""
    code = (
        "import sys; from backup.cli import COMMANDS; [command.load() for command in COMMANDS.values()]; "
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0, "import backup.inventory inside the functions of a command that need it"
