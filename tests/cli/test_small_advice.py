"""Advice to somebody who knows restic, or who asks in the wrong place: what is meant, and what does it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

import backup.installed
from backup.app.aws_setup.describe import wrap as in_lines
from backup.cli.maintenance.drill import show_drill
from backup.cli.support.context import Cli
from backup.driller.report import DrillReport
from backup.inventory.records.readings import Grade
from backup.inventory.store.locks import hold_lock
from backup.inventory.store.states import StepStage
from backup.model import VaultName
from tests.support.emulated import REPOSITORY
from tests.support.servers import Server, directory_server
from tests.support.terminals import Terminal


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    made = directory_server(tmp_path_factory.mktemp("advice"))
    made.init()
    made.backup()
    return made


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("history", "runs"),
        ("server-gone", "rebuild"),
        ("disaster", "rebuild"),
        ("files", "ls, or find"),
        ("log", "journalctl -u nightvault"),
        ("cost", "stats, prices"),
        ("quote", "restore --dry-run"),
        ("test", "drill run"),
        ("umount", "web looks inside"),
        ("cache", "the inventory"),
        ("key list", "nightvault key status"),
        ("drill list", "nightvault drills"),
        ("restore latest -t /x", "--target DIR"),
        ("snapshots --latest 1", "nightvault ls latest"),
        ("check --read-data", "--read-data 5%"),
        ("pause files 1d", "nightvault pause JOB --until 1d"),
        ("pause files", "nightvault pause JOB --until 1d"),
    ],
)
def test_words_of_others(server: Server, words: str, meant: str) -> None:
    assert meant in server.fails(2, *words.split())


def test_a_bare_name_is_looked_for_everywhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "`nightvault find a.txt` looks for the name everywhere" in server.fails(2, "versions", "a.txt")
    assert "nightvault find" not in server.fails(2, "versions", f"{server.source}/no.txt")


def test_restores_that_have_ended_are_named(server: Server, tmp_path: Path) -> None:
    assert server.done("restores").stdout == "no restores\n"
    server.restore(tmp_path / "out", snapshot="latest")
    assert "`nightvault restores --all`" in server.done("restores").stdout
    assert server.json("restores") == []


def test_a_daemon_goes_on_only_if_one_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    cli = Cli(config_path=str(server.config))
    report = DrillReport(StepStage.WAITING, "weekly", Grade.OPENED, VaultName("cold"), "USD", waits_for="it")

    def told() -> str:
        with pytest.raises(click.exceptions.Exit):
            show_drill(cli, report)
        return capsys.readouterr().out

    assert "daemon" not in told()
    with hold_lock(str(server.state), "daemon"):
        assert "the daemon goes on, too" in told()


def test_results_name_pages_by_their_path_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "who-deletes.md").touch()
    monkeypatch.setattr(backup.installed, "share", lambda: str(tmp_path))
    Cli().show(None, "nobody (docs/who-deletes.md)")
    assert capsys.readouterr().out == f"nobody ({tmp_path}/docs/who-deletes.md)\n"


def test_a_key_that_was_typed_wrong_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    words = ("--config", server.config, "restore", "latest", "--target", tmp_path / "again")
    terminal = Terminal(*words)
    terminal.wait_for("recovery key (NVK1-…): ")
    terminal.answer("NVK1-AAAA")
    terminal.wait_for("type it again")
    assert "AAAA" not in terminal.text
    terminal.text = terminal.text.rpartition("type it again")[2]
    terminal.wait_for("recovery key (NVK1-…): ")  # what is typed before it is thrown away
    key = server.key_file.read_text().splitlines()[-1]
    assert terminal.end_with(key) == 0
    assert (tmp_path / "again").is_dir()
    terminal = Terminal(*words[:-1], tmp_path / "never")
    for _ in range(2):
        terminal.wait_for("recovery key (NVK1-…): ")
        terminal.answer("NVK1")
        terminal.wait_for("type it again")
        terminal.text = terminal.text.rpartition("type it again")[2]
    terminal.wait_for("recovery key (NVK1-…): ")
    assert terminal.end_with("NVK1") == 12


@pytest.mark.parametrize(
    ("kind", "first", "upgrade"),
    [("deb", ["configure", ""], ["configure", "0.1.0"]), ("rpm", ["1"], ["2"])],
)
def test_a_package_says_what_is_next_only_when_it_is_new(
    tmp_path: Path, kind: str, first: list[str], upgrade: list[str]
) -> None:
    """Its script, without the parts of it that change this machine."""
    text = (REPOSITORY / "deploy" / "packages" / kind / "postinstall").read_text()
    (said,) = re.findall(r"^if [^\n]*\n\techo[^\n]*\nfi$", text, re.MULTILINE)
    script = tmp_path / "postinstall"
    script.write_text(f"set -e\n{said}\n")

    def told(words: list[str]) -> str:
        return subprocess.run(["sh", script, *words], check=True, capture_output=True, text=True).stdout

    assert told(first) == "next: `nightvault begin` on the machine to be backed up\n"
    assert told(upgrade) == ""


def test_a_plan_breaks_no_name() -> None:
    lines = in_lines("prunes of this server only condemn, see docs/who-deletes.md", 55)
    assert lines == ["prunes of this server only condemn, see", "docs/who-deletes.md"]
