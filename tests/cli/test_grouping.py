"""Global options in any place; words beside an argument."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

from backup.cli import COMMANDS, main
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import CommandWithSubcommands, LazyCommand


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "-q", "-v", "--config", "/c", "deep", "try"],
        ["deep", "--json", "-qv", "try", "--config", "/c"],
        ["deep", "try", "--config=/c", "--json", "--quiet", "--verbose"],
    ],
)
def test_global_options_are_taken_in_any_place(words: list[str], try_out: Callable[..., Result]) -> None:
    seen: list[Cli] = []
    assert try_out(seen.append, *words).exit_code == 0
    (cli,) = seen
    assert (cli.json, cli.quiet, cli.verbose, cli.config_path) == (True, True, True, "/c")


def test_a_later_place_without_options_changes_nothing(try_out: Callable[..., Result]) -> None:
    seen: list[Cli] = []
    try_out(seen.append, "--config", "/c", "try")
    assert (seen[0].config_path, seen[0].json) == ("/c", False)


def test_the_config_is_read_once_from_where_the_environment_says(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    runner = CliRunner(env={"NIGHTVAULT_CONFIG": str(path)})
    result = runner.invoke(main, ["config", "check", "--json"])
    assert json.loads(result.stdout)["config"] == str(path)
    cli = Cli(config_path=str(path))
    assert cli.config() is cli.config()


def test_config_check_says_what_is_fine_and_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[[vault]]\nname = "disk"\nkind = "directory"\npath = "/srv"\n')
    path.chmod(0o666)
    result = CliRunner().invoke(main, ["--config", str(path), "config", "check"])
    assert result.exit_code == 0
    assert f"{path} is fine\n" in result.stdout
    assert "vault disk: directory, /srv, packs of 224.0 MiB in parts of 32.0 MiB" in result.stdout
    assert result.stderr == (
        f"warning: {path} can be changed by others (every user may write to {path}), and with it what is "
        f"backed up, and where to: chmod go-w {path}\n"
        "warning: there is no [[job]], so nothing is backed up\n"
    )
    path.write_text("[[vault]]\nnmae = 3\nkind = 4")
    result = CliRunner().invoke(main, ["--config", str(path), "config", "check"])
    assert result.exit_code == 2
    assert "vault[1].nmae: unknown key; did you mean name?" in result.stderr


# Words beside an argument.


def with_words() -> CommandWithSubcommands:
    @click.command("restore", cls=CommandWithSubcommands)
    @click.argument("what")
    @click.option("--target")
    def restore(what: str, target: str | None) -> None:
        """Restore."""
        click.echo(f"restore {what} {target}")

    @restore.subcommand("resume")
    @click.argument("number", type=int)
    @pass_cli
    def resume(cli: Cli, number: int) -> None:
        """Go on with it."""
        click.echo(f"resume {number} {cli.json}")

    assert resume.name == "resume"
    return restore


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["latest:/etc", "--target", "/x"], "restore latest:/etc /x\n"),
        (["--target", "resume", "latest"], "restore latest resume\n"),
        (["resume", "7"], "resume 7 False\n"),
        (["--json", "resume", "7"], "resume 7 True\n"),
        (["resume", "7", "--json"], "resume 7 True\n"),
        (["--", "resume"], "restore resume None\n"),
    ],
)
def test_a_word_is_a_command_of_its_own(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("worded")
    vars(module).update(restore=with_words())
    monkeypatch.setitem(sys.modules, "worded", module)
    monkeypatch.setitem(COMMANDS, "restore", LazyCommand("worded:restore", "Restore."))
    assert CliRunner().invoke(main, ["restore", *words]).stdout == said
    assert "restore resume  Go on with it." in CliRunner().invoke(main, ["restore", "--help"]).stdout
    assert "restore resume [OPTIONS] NUMBER" in CliRunner().invoke(main, ["restore", "resume", "-h"]).stdout


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("list", "snapshots or ls"),
        ("extract", "restore"),
        ("snapshot", "snapshots"),
        ("verify", "check, or check --read-data"),
        ("help", "`nightvault --help`"),
        ("help backup", "`nightvault backup --help`"),
    ],
)
def test_what_other_programs_call_otherwise_is_named(words: str, meant: str) -> None:
    """`list` is no `listing`, which asks a vault for hours."""
    name = words.split(maxsplit=1)[0]
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 2
    assert f"there is no command {name!r}; did you mean {meant}?" in result.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("ls latest /etc", "`nightvault ls latest:/etc`"),
        ("dump latest /etc/fstab", "`nightvault dump latest:/etc/fstab`"),
        ("forget --prune", "`nightvault prune` does"),
        ("init --repo /x", "a [[vault]] of the config"),
        ("init --repo=/x", "a [[vault]] of the config"),
        ("backup -r /x", "a [[vault]] of the config"),
        ("check --repair", "stores again what a check found lost"),
        ("key add", "`nightvault key generate` makes a key"),
        ("backup --exclude x", "`exclude` of its [[job]]"),
        ("snapshots --host web1", "--job NAME"),
        ("-V", "`nightvault --version`"),
        ("backup -n", "--dry-run"),
        ("ca init", "`nightvault ca create`"),
        ("prune disk", "`nightvault prune --vault disk`"),
        ("check disk", "`nightvault check --vault disk`"),
        ("stats disk", "`nightvault stats --vault disk`"),
        ("compact disk", "`nightvault compact --vault disk`"),
        ("backup --job data", "`nightvault backup JOB`"),
        ("snapshots --since 1d", "--at TIME"),
        ("runs --since 1d", "--limit N"),
        ("snapshots --jsn", "Did you mean --json?"),
    ],
)
def test_words_of_other_programs_get_the_sentence_that_helps(words: str, meant: str) -> None:
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 2
    assert meant in result.stderr


@pytest.mark.parametrize("words", ["runs --since 1d", "backup --job data", "stats --foo"])
def test_an_option_is_proposed_only_where_one_is_near(words: str) -> None:
    assert "mean" not in CliRunner().invoke(main, words.split()).stderr


@pytest.mark.parametrize("words", ["ls latest:/ /etc", "ls a b c", "forget --nope", "diff latest /etc /x /y"])
def test_what_nobody_else_says_gets_the_help_alone(words: str) -> None:
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("  see `nightvault ")
