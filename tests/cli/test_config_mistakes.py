"""What a config says wrongly is named by `config check` and `backup`, never told by a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import run
from tests.support.servers import Server

NUL = "\\u0000"


def add(server: Server, *lines: str) -> None:
    """Lines at the end of the job `main`."""
    with server.config.open("a") as file:
        file.write("\n".join(lines) + "\n")


def test_sources_that_are_missing(server: Server) -> None:
    """A mistyped source is named before the first night."""
    text = server.config.read_text()
    server.config.write_text(text.replace(f'["{server.source}"]', f'["{server.source}", "/nowhere"]'))
    assert "source /nowhere is not there" in server.done("config", "check").stderr
    told = server.run("backup")
    assert (told.exit_code, "/nowhere" in told.stderr) == (3, True)


@pytest.mark.parametrize("pattern", ["[z-a]", "a[9-0]/b"])
def test_bad_patterns(server: Server, pattern: str, tmp_path: Path) -> None:
    """A range that runs backwards, in the config, in a file, and as an option."""
    text = server.config.read_text()
    add(server, f'exclude = ["{pattern}"]')
    for words in (["config", "check"], ["backup"], ["backup", "--dry-run"]):
        told = server.fails(2, *words)
        assert "job[1].exclude[1]" in told
        assert f"{pattern!r} is no pattern: bad character range " in told
        assert "position" not in told, "it would be one in what we made of the pattern"
    server.config.write_text(text)
    (tmp_path / "patterns").write_text(f"*.o\n{pattern}\n")
    add(server, f'exclude_file = ["{tmp_path}/patterns"]')
    for words in (["config", "check"], ["backup"]):
        assert f"{tmp_path}/patterns:2" in server.fails(2, *words)
    server.config.write_text(text)
    server.backup()
    for option in ("--include", "--exclude"):
        told = server.fails(2, "restore", "latest", option, pattern, "--target", tmp_path / "out")
        assert f"{option}: " in told
    told = server.fails(2, "find", pattern)
    assert f"{pattern!r} is no pattern: bad character range " in told
    assert "position" not in told
    server.fails(2, "restore", "latest", f"/x/{pattern}", "--target", tmp_path / "out")


def test_a_file_of_patterns_that_is_missing(server: Server) -> None:
    """What a run would refuse, `config check` names."""
    add(server, 'exclude_file = ["/nowhere/patterns"]')
    assert "/nowhere/patterns" in server.fails(2, "config", "check")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('name = "x"\nrun = []', "must name a program"),
        (f'name = "x"\nrun = ["a{NUL}b"]', "command[1].run[1]"),
        (f'name = "x"\nrun = ["true"]\nenvironment = {{ A = "a{NUL}" }}', "command[1].environment"),
        ('name = "x"\nrun = ["true"]\nenvironment = { "A=B" = "c" }', "command[1].environment"),
        ('name = "x"\nrun = ["true"]\nenvironment = { "" = "c" }', "command[1].environment"),
        (f'name = "x"\nrun = ["true"]\nuser = "a{NUL}b"', "command[1].user"),
        ('name = "x"\nrun = ["true"]\ntimeout = 0', "command[1].timeout"),
        ('name = "x"\nrun = ["true"]\ntimeout = "99999999h"', "command[1].timeout"),
        (f'name = "{"é" * 200}"\nrun = ["true"]', "at most 255 bytes"),
        (f'name = "{"x/" * 3000}x"\nrun = ["true"]', "command[1].name"),
        ('name = "../x"\nrun = ["true"]', "command[1].name"),
    ],
)
def test_absurd_commands(server: Server, lines: str, told: str) -> None:
    """Values that no command can have are mistakes of the config, for both commands."""
    add(server, "[[job.command]]", lines)
    for words in (["config", "check"], ["backup"]):
        assert told in server.fails(2, *words)


def test_commands_that_this_machine_cannot_run(server: Server) -> None:
    """No such program, no such user: a warning, as the config may be for another machine."""
    add(server, "[[job.command]]", 'name = "x"\nrun = ["/nowhere/dump"]\nuser = "nobody-at-all"')
    told = server.done("config", "check").stderr
    assert "there is no program /nowhere/dump" in told
    assert "no user nobody-at-all" in told
    assert server.run("backup").exit_code == 3


@pytest.mark.parametrize(
    "place", ["state.dir", "vault.path", "job.exclude", "job.exclude_file", "inventory.url"]
)
def test_a_nul_in_any_text(server: Server, place: str) -> None:
    """The system takes no NUL in a path, so the config does not."""
    section, _, key = place.partition(".")
    value = f'"/a{NUL}b"' if not key.startswith("exclude") else f'["/a{NUL}b"]'
    value = f'"sqlite:////a{NUL}b"' if key == "url" else value
    head = {"state": "[state]", "inventory": "[inventory]", "vault": "[[vault]]", "job": "[[job]]"}[section]
    fill = {
        "vault": 'name = "v"\nkind = "directory"\n',
        "job": 'name = "j"\nvault = "cold"\nsources = ["/"]\n',
    }
    text = server.config.read_text()
    if section == "state":
        text = text.replace(f'dir = "{server.state}"\n', "").replace("[state]\n", "")
    server.config.write_text(f"{text}\n{head}\n{fill.get(section, '')}{key} = {value}\n")
    for words in (["config", "check"], ["backup"]):
        assert key in server.fails(2, *words)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ('source = "/etc"', 'did you mean sources = ["/etc"]?'),
        ('source = ["/etc", "/root"]', 'did you mean sources = ["/etc","/root"]?'),
        ('sources = "/etc"', 'did you mean ["/etc"]?'),
    ],
)
def test_source_is_hinted_at(server: Server, line: str, hint: str) -> None:
    """`source =` is what everybody writes first."""
    text = server.config.read_text()
    server.config.write_text(text.replace(f'sources = ["{server.source}"]', line))
    assert hint in server.fails(2, "config", "check")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hooks = []", "job[1].hooks: must be a table"),
        ("hooks = [{}]", "job[1].hooks: must be a table"),
        ('command = { name = "x", run = ["true"] }', "job[1].command: must be written as [[job.command]]"),
        ('source = { path = "/etc" }', "job[1].source: must be written as [[job.source]]"),
    ],
)
def test_tables_and_lists_of_tables(server: Server, line: str, told: str) -> None:
    """One where the other belongs is not taken, to end in a trace when the job runs."""
    add(server, line)
    for words in (["config", "check"], ["backup"]):
        assert told in server.fails(2, *words)


def test_names_are_bounded(server: Server) -> None:
    """A job's name stands in tables, in logs and in every catalog."""
    text = server.config.read_text()
    server.config.write_text(text.replace('name = "main"', f'name = "{"m" * 64}"'))
    server.done("config", "check")
    server.config.write_text(text.replace('name = "main"', f'name = "{"m" * 65}"'))
    assert "64 at most" in server.fails(2, "config", "check")


def test_a_source_that_is_a_symlink(server: Server, tmp_path: Path) -> None:
    """Nobody else says that a move of the data ended its backup."""
    (tmp_path / "way").symlink_to(server.source)
    text = server.config.read_text()
    server.config.write_text(text.replace(f'["{server.source}"]', f'["{tmp_path}/way/"]'))
    for command in (("config", "check"), ("backup",)):
        assert f"source {tmp_path}/way/ is a symlink to {server.source}: only" in server.done(*command).stderr


def test_what_is_missing_or_written_otherwise_than_meant_is_a_warning(tmp_path: Path) -> None:
    """It was fine: an empty file, a region with a slip, a page that would refuse to start."""
    path = tmp_path / "config.toml"

    def warned(text: str) -> str:
        path.write_text(f'[state]\ndir = "{tmp_path}/state"\n{text}')
        done = run("--config", path, "config", "check")
        assert done.exit_code == 0, done.stderr
        return " ".join(done.stderr.split())

    assert "no [[vault]]" in warned("")
    assert "no [[job]]" in warned("")
    disk = f'[[vault]]\nname = "disk"\nkind = "directory"\npath = "{tmp_path}/vault"\n'
    job = f'[[job]]\nname = "etc"\nvault = "disk"\nsources = ["{tmp_path}"]\n'
    assert "warning: there is no" not in warned(disk + job)
    assert "folder of monitoring.metrics_file is not there" in warned(
        f'{disk}[monitoring]\nmetrics_file = "{tmp_path}/nowhere/nightvault.prom"\n'
    )
    assert "others reach 0.0.0.0:80" in warned(f'{disk}[web]\nlisten = "0.0.0.0:80"\n')
    cold = '[[vault]]\nname = "cold"\nkind = "glacier"\nregion = "eu-centrall-1"\nvault = "v"\n'
    assert "knows no region eu-centrall-1; did you mean eu-central-1?" in warned(cold)


def test_files_that_are_not_there_are_warned_of(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[identity]\ncertificate = "a.crt"\nprivate_key = "a.key"\n[prices]\nfile = "p.toml"\n')
    told = run("--config", str(config), "config", "check").stderr
    names = {"identity.certificate": "a.crt", "identity.private_key": "a.key", "prices.file": "p.toml"}
    for key, name in names.items():
        assert f"warning: {key}: there is no file {tmp_path / name}" in told
