"""Manual pages and docs/commands/: made from the commands, complete, and up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from backup.cli import COMMANDS, OLD_NAMES
from backup.cli.manual import markdown, roff
from backup.cli.manual.__main__ import write
from backup.cli.manual.pages import Page, all_pages
from backup.cli.support.grouping import walk
from backup.errors import ExitCode
from tests.support.emulated import REPOSITORY

PAGES = all_pages()


def test_the_pages_of_the_documentation_are_up_to_date() -> None:
    folder = REPOSITORY / "docs" / "commands"
    wanted = markdown.files_of(PAGES)
    there = {path.name: path.read_text() for path in folder.iterdir()}
    assert there == wanted, "the commands have changed: run `make reference`, and commit docs/commands/"


def test_every_command_and_every_option_is_in_both() -> None:
    pages = "\n".join(markdown.files_of(PAGES).values())
    manual = "\n".join(roff.files_of(PAGES).values())
    for name, lazy in ((name, lazy) for name, lazy in COMMANDS.items() if name not in OLD_NAMES):
        for path, command in walk(name, lazy.load()):
            assert re.search(rf"^##+ {path}$", pages, re.MULTILINE), path
            for param in command.params:
                if isinstance(param, click.Option) and not param.hidden:
                    flag = max(param.opts, key=len)
                    assert f"{flag}" in pages
                    assert flag.replace("-", "\\-") in manual


def test_the_manual_has_a_page_for_each_command() -> None:
    assert set(roff.files_of(PAGES)) == {
        "nightvault.1",
        *(f"nightvault-{name}.1" for name in COMMANDS if name not in OLD_NAMES),
    }


def test_the_manual_names_every_exit_code() -> None:
    assert {int(code) for code, _ in roff.EXIT_CODES} == set(map(int, ExitCode))


def test_text_that_roff_would_take_for_its_own() -> None:
    page = Page(
        "x", "Looking", ".TH it is", "nightvault x", ("'a\\b", "-o ~/x"), (), (".so /etc/passwd",), ()
    )
    text = roff.files_of([page, page])["nightvault-x.1"]
    assert "\n\\&.so /etc/passwd\n" in text
    assert "\n\\(aqa\\eb\n" in text
    assert "\n\\-o \\(ti/x\n" in text
    assert "\n.so" not in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not here")
def test_groff_has_nothing_to_say_against_them(tmp_path: Path) -> None:
    write("man", str(tmp_path))
    pages = sorted(map(str, tmp_path.iterdir()))
    command = ["groff", "-man", "-Kutf8", "-Tutf8", "-ww", *pages]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if "can't break line" not in line] == []
    assert "nightvault restore latest:/etc --target /mnt/back --key recovery.key" in done.stdout


def test_what_is_gone_goes_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "old.md").write_text("a command of yesterday")
    write("markdown", str(tmp_path))
    assert not (tmp_path / "old.md").exists()
    assert (tmp_path / "restoring.md").read_text() == markdown.files_of(PAGES)["restoring.md"]
