"""`nightvault begin` to its end: on a terminal into a directory, by a file into an emulated AWS."""

from __future__ import annotations

import json
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from backup.app.base.clock import SystemClock
from backup.cli import main
from backup.config import load_config
from tests.support.aws_setups import become, emulated_account
from tests.support.emulated import RunningEmulator
from tests.support.servers import HurryingClock, Server, fill
from tests.support.terminals import Terminal

WIDTH = 80


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with files, and without a config; its paths are short, as those of servers are."""
    with tempfile.TemporaryDirectory(prefix="nv-", dir="/tmp") as folder:
        made = Server(Path(folder), SystemClock())
        fill(made.source)
        yield made


def write_answers(server: Server, **answers: object) -> Path:
    path = server.folder / "answers.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in answers.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def into_a_directory(server: Server) -> Mapping[str, object]:
    return {
        "sources": [str(server.source)],
        "where": "disk",
        "path": str(server.folder / "vault"),
        "key_file": str(server.key_file),
    }


def typed_back(text: str, sheet: Path) -> str:
    """The groups of the sheet that were asked for."""
    (asked,) = re.findall(r"type the groups ([\d, ]+)", text)
    groups = dict(re.findall(r"(\d+): ([0-9A-Z]{4})", sheet.read_text()))
    return " ".join(groups[number.strip()] for number in asked.split(","))


def test_a_walk_on_a_terminal_ends_with_a_backup_and_a_drill(server: Server) -> None:
    """At 80 by 24 with LANG=C: the screens until the commands run have no longer line, nor any escape."""
    config = server.folder / "etc" / "config.toml"
    sheet = server.folder / "sheet.txt"
    terminal = Terminal("--config", config, "begin", LC_ALL="C", LANG="C", HOME=server.folder)
    for asked, answer in (
        ("backed up?", str(server.source)),
        ("Where to?", "disk"),
        ("Which directory?", str(server.folder / "vault")),
        ("When?", ""),
        ("snapshots are kept?", "short"),
        ("snapshots are kept? [short]", ""),
        ("vault checked?", ""),
        ("key made?", ""),
        ("Into which file?", str(server.key_file)),
        ("A sheet to print", str(sheet)),
        ("Who is told", ""),
        ("restore of one file?", ""),
    ):
        terminal.wait_for(asked)
        terminal.answer(answer)
    terminal.wait_for("Write it, and run these?")
    assert not config.exists()
    assert not server.key_file.exists()
    assert max(map(len, terminal.text.splitlines())) <= WIDTH
    assert terminal.text.isascii()
    assert "\x1b" not in terminal.text
    terminal.answer("yes")
    terminal.wait_for("type the groups")
    terminal.answer("AAAA BBBB CCCC DDDD")
    terminal.wait_for("not as in the key")
    terminal.answer(typed_back(terminal.text.split("not as in the key")[0], sheet))
    terminal.wait_for("right: the key was kept")
    assert terminal.end() == 0, terminal.text
    assert "opened 1 file" in terminal.text
    assert "all of it is as it was saved" in terminal.text

    modes = {path: path.stat().st_mode & 0o777 for path in (config, sheet, server.key_file)}
    assert set(modes.values()) == {0o600}
    read = tomllib.loads(config.read_text())
    assert read["job"][0]["retention"] == {"keep_within": "14d", "keep_weekly": 4}
    assert (read["vault"][0]["check"], read["monitoring"]["check_age"]) == ("monthly", "40d")


def test_a_file_of_answers_does_the_same_and_the_doctor_has_no_news(server: Server) -> None:
    made = server.json("begin", "--answers", write_answers(server, **into_a_directory(server)))
    assert server.json("config", "check")["warnings"] == made["warnings"] == []
    assert len(server.json("snapshots")) == 1
    found = server.json("doctor", exit_code=1)["findings"]
    assert {finding["check"] for finding in found} <= {finding["check"] for finding in made["findings"]}
    assert "recovery-lines" in {finding["check"] for finding in found}


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """An account with nothing in it; the admin's keys are in the environment."""
    with emulated_account(tmp_path / "aws") as running:
        become(monkeypatch, running)
        yield running


def test_begin_alone_makes_a_first_cold_backup_by_certificate(
    server: Server, emulator: RunningEmulator
) -> None:
    """Into DEEP_ARCHIVE; the drill waits for a person, who gives the command that was printed."""
    server.clock = HurryingClock(emulator, hours=7)
    server.done("ca", "create", "--dir", server.folder / "ca", "--name", "Test CA", "--organization", "Test")
    server.done(
        *("ca", "issue", "web1", "--dir", server.folder / "ca", "--out", server.folder),
        *("--organization", "Test", "--unit", "Servers"),
    )
    answers = write_answers(
        server,
        sources=[str(server.source)],
        where="aws",
        region="eu-central-1",
        certificate=str(server.folder / "web1.pem"),
        key_file=str(server.key_file),
        set_up_by=str(server.folder / "ca" / "ca.pem"),
    )
    told = server.done("begin", "--answers", answers)
    read = tomllib.loads(server.config.read_text())
    assert read["vault"][0]["storage_class"] == "DEEP_ARCHIVE"
    assert read["vault"][0]["role_arn"].endswith("role/nightvault-backup")
    assert "# Where archives go." in server.config.read_text()
    assert "would read" in told.stdout
    assert server.json("config", "check")["warnings"] == []
    assert [run["kind"] for run in server.json("runs")] == ["backup"]
    printed = " ".join(told.stderr.replace("\\\n", "").split())
    assert f"drill run one-file --key {server.key_file} Give the same command again 12 hours later" in printed
    words = ("drill", "run", "one-file", "--key", server.key_file)
    server.waits(*words)
    assert "opened 1 file" in server.done(*words, "--wait").stdout


def test_a_person_sets_aws_up_on_a_terminal(server: Server, emulator: RunningEmulator) -> None:
    """`setup aws` shows and asks by itself; the price of a drill is shown before anything is asked for."""
    server.done("ca", "create", "--dir", server.folder / "ca", "--name", "Test CA", "--organization", "Test")
    server.done(
        *("ca", "issue", "web1", "--dir", server.folder / "ca", "--out", server.folder),
        *("--organization", "Test", "--unit", "Servers"),
    )
    terminal = Terminal("--config", server.config, "begin", LC_ALL="C", HOME=server.folder)
    for asked, answer in (
        ("backed up?", str(server.source)),
        ("Where to? [aws]", ""),
        ("Which region?", "eu-central-1"),
        ("storage class? [DEEP_ARCHIVE]", ""),
        ("certificate? ", str(server.folder / "web1.pem")),
        ("Its private key?", ""),
        ("When?", ""),
        ("snapshots are kept?", ""),
        ("vault checked?", ""),
        ("key made?", ""),
        ("Into which file?", str(server.key_file)),
        ("A sheet to print", ""),
        ("Who is told", ""),
        ("Set AWS up from here", str(server.folder / "ca" / "ca.pem")),
        ("restore of one file?", ""),
        ("run these?", ""),
        ("Do this? [y/N]", "y"),
    ):
        terminal.wait_for(asked)
        terminal.answer(answer)
    terminal.wait_for("type the groups", 60)
    sheet = server.folder / "recovery-sheet.txt"
    bucket = load_config(str(server.config)).vaults[0].bucket
    assert f"in the bucket {bucket},\nAWS region eu-central-1, account 1" in sheet.read_text()
    terminal.answer(typed_back(terminal.text, sheet))
    terminal.wait_for("at this price?", 60)
    assert "would read" in terminal.text
    assert terminal.end_with("no") == 0, terminal.text
    assert "Give the same command again 12 hours later" in terminal.text
    assert [run["kind"] for run in server.json("runs")] == ["backup"]


def test_without_a_terminal_it_says_what_it_needs(server: Server) -> None:
    told = server.fails(2, "begin")
    assert "`nightvault begin` asks on a terminal, and this is none\n  give --answers FILE" in told
    assert not server.config.exists()


def test_a_config_that_is_there_is_never_written_over(server: Server) -> None:
    server.config.write_text("# mine\n")
    told = server.fails(2, "begin", "--answers", write_answers(server, **into_a_directory(server)))
    assert f"there is a config already: {server.config}" in told
    assert "`nightvault config check`" in told
    assert "`nightvault doctor`" in told
    assert "`nightvault init --key-file FILE`" in told
    assert server.config.read_text() == "# mine\n"


def test_where_no_config_can_be_nobody_is_asked(server: Server) -> None:
    server.source.joinpath("file").touch()
    below = server.source / "file" / "config.toml"
    result = CliRunner().invoke(main, ["--config", str(below), "begin"])
    assert result.exit_code == 2
    assert (
        f"cannot write the config {below}: {server.source}/file is there, and is no directory"
        in result.stderr
    )


def test_a_server_that_lost_its_config_goes_on_with_its_key(server: Server) -> None:
    """Nobody is asked for another key, and none is spoken of."""
    answers = into_a_directory(server)
    first = server.json("begin", "--answers", write_answers(server, **answers))
    server.config.rename(server.folder / "old.toml")
    again = {name: value for name, value in answers.items() if name != "key_file"}
    told = server.done("begin", "--answers", write_answers(server, **again))
    assert len(server.json("snapshots")) == 2
    assert str(server.key_file) in str(first["commands"])
    assert "--key" not in told.output
    assert "off this server" not in told.stderr.partition("To see what is easily")[2]


def test_where_there_is_no_config_the_message_names_begin(server: Server) -> None:
    assert "`nightvault begin` writes one" in server.fails(2, "init")
    assert "`nightvault begin` writes one" in server.fails(2, "backup")
    for words in ("rebuild", "restore latest --target out", "snapshots", "status"):
        said = server.fails(2, *words.split())
        assert (
            "in place of a server that is lost, do not give `nightvault begin`: docs/server-gone.md" in said
        )


def test_going_away_leaves_nothing_and_says_so(server: Server) -> None:
    """Ctrl-C at a question, an end of the input at another, and a no at the end."""
    sources = [
        str(server.source),
        "disk",
        str(server.folder / "vault"),
        *[""] * 4,
        str(server.key_file),
        "",
        "",
        "",
    ]
    before = set(server.folder.rglob("*"))
    for typed, last, code, told in (
        ([], "\x03", 130, "stopped: nothing was written"),
        (sources[:3], "\x04", 130, "stopped: nothing was written"),
        (sources, "no", 2, "nightvault: nothing was written"),
    ):
        terminal = Terminal("--config", server.config, "begin", HOME=server.folder)
        terminal.wait_for("backed up?")
        for line in typed:
            terminal.answer(line)
        terminal.wait_for("When?" if len(typed) == 3 else "run these?" if typed else "backed up?")
        assert (terminal.interrupt() if last == "\x03" else terminal.end_with(last)) == code, terminal.text
        assert told in terminal.text
        assert set(server.folder.rglob("*")) == before


def test_going_away_before_the_key_was_proven_leaves_what_is_done_whole(server: Server) -> None:
    terminal = Terminal("--config", server.config, "begin", HOME=server.folder)
    terminal.wait_for("backed up?")
    for line in (
        str(server.source),
        "disk",
        str(server.folder / "vault"),
        *[""] * 4,
        str(server.key_file),
        *[""] * 4,
    ):
        terminal.answer(line)
    terminal.wait_for("type the groups")
    assert terminal.interrupt() == 130
    assert f"stopped: the config {server.config} is whole" in " ".join(terminal.text.split())
    left = terminal.text.partition("To go on:")[2]
    assert "backup" in left
    assert "init" not in left
    assert server.json("backup")[0]["outcome"] == "done"
