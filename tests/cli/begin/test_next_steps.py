"""What `begin` tells to do afterwards: commands that can be typed as they stand, each on its machine."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.app.beginning.answers import Answers, Tell, Where
from backup.cli.begin.next_steps import cold_drill, next_steps
from backup.cli.begin.summary import commands_of, folded
from backup.format.keys import RecoveryKey
from tests.cli.begin.scripted import facts
from tests.support.command_line import parsed
from tests.support.identities import authority_in, issue_in

DISK = Answers(
    sources=("/etc",), path="/mnt/b", schedule="daily at 02:30", key_file="/mnt/key", sheet="/mnt/s"
)
AWS = replace(
    DISK,
    where=Where.AWS,
    storage_class="DEEP_ARCHIVE",
    certificate="/etc/nightvault/web 1.pem",
    private_key="/etc/nightvault/web 1.key",
    tell=Tell.NTFY,
)
RECIPIENT = RecoveryKey.from_seed(b"\7" * 32).recipient.to_text()
WAYS = {
    "disk": DISK,
    "aws elsewhere": AWS,
    "aws here": replace(AWS, authority="/root/ca/ca.pem"),
    "glacier": replace(AWS, where=Where.GLACIER, recipient=RECIPIENT),
}


def told(answers: Answers, folder: Path, *, backed_up: bool) -> str:
    """Everything that is said, its lines joined that belong together."""
    named = ("--config", "/etc/night vault.toml")
    lines = [*next_steps(answers, facts(folder), named, backed_up=backed_up), *cold_drill(answers, named)]
    shown = [folded("  ", named, words) for words in commands_of(answers, asks=False)]
    return "\n".join([*shown, *lines]).replace("\\\n", " ")


def test_only_a_drill_that_may_wait_is_given_again_later() -> None:
    later = "Give the same command again 12 hours later"
    assert later in "\n".join(cold_drill(AWS, ()))
    assert later not in "\n".join(cold_drill(AWS, (), failed=True))


def given(text: str) -> list[tuple[str, str]]:
    """Each command, with the heading of the machine that it is given on."""
    machine, found = "On this server:", []
    for line in text.splitlines():
        if line.startswith("  "):
            found.append((machine, line.strip()))
        elif line.startswith("On "):
            machine = line
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backed_up", [True, False], ids=["backed up", "not yet"])
def test_each_command_is_as_the_program_takes_it(way: str, backed_up: bool, tmp_path: Path) -> None:
    text = told(WAYS[way], tmp_path, backed_up=backed_up)
    commands = [command for _, command in given(text) if command.startswith("nightvault ")]
    assert len(commands) > 3
    for command in commands:
        words = shlex.split(command.partition(" > ")[0], comments=True)
        assert words.pop(0) == "nightvault"
        assert parsed(words), command


def test_aws_is_set_up_by_an_admin_and_the_certificate_signed_by_the_authority(tmp_path: Path) -> None:
    """In this order: what the server asks for, signs elsewhere, sets up elsewhere, and only then does."""
    commands = given(told(AWS, tmp_path, backed_up=False))
    order = [
        (machine.split(",")[0].split(":")[0], " ".join(shlex.split(line)[:3])) for machine, line in commands
    ]
    assert order[1:9] == [
        ("On this server", "nightvault identity csr"),
        ("On the authority", "nightvault ca create"),
        ("On the authority", "scp web1.example.org:server.csr ."),
        ("On the authority", "nightvault ca sign"),
        ("On the authority", "scp server.pem web1.example.org:/etc/nightvault/web 1.pem"),
        ("On an admin's machine", f"scp web1.example.org:{tmp_path}/config.toml ."),
        ("On an admin's machine", "nightvault --config config.toml"),
        ("On an admin's machine", "nightvault --config config.toml"),
    ]
    assert not [line for machine, line in commands if "setup aws" in line and "admin" not in machine]


def test_lines_that_are_copied_together_are_one_command(tmp_path: Path) -> None:
    """Each line of a command but its last one ends in a backslash."""
    shown = "\n".join(next_steps(AWS, facts(tmp_path), (), backed_up=False)).splitlines()
    for line, following in pairwise(shown):
        assert line.endswith("\\") == following.startswith("      "), line


def test_the_roles_are_for_the_certificate_that_is_there(tmp_path: Path) -> None:
    """Its name is often another than the machine's, and AWS lets in the certificate's."""
    issued = issue_in(authority_in(str(tmp_path / "ca")), str(tmp_path / "out"), name="web1.backup")
    files = {"certificate": issued.certificate_path, "private_key": issued.key_path}
    answers = replace(AWS, region="eu-central-1", tell=Tell.NOBODY, **files)
    text = told(answers, tmp_path, backed_up=False)
    assert text.count("--subject web1.backup\n") == 2, text
    assert "--subject web1.example.org" not in text
    assert "identity csr" not in text


def test_who_is_not_root_starts_a_daemon_of_their_own(tmp_path: Path) -> None:
    person = facts(tmp_path)
    person.is_root = False
    told_last = list(next_steps(DISK, person, (), backed_up=True))
    assert "  nightvault install --systemd --user" in told_last


def test_a_command_can_be_copied_from_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it goes on in the next line, it says so, and no line is broken by the terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    lines = folded("$ ", ("--config", "/etc/config.toml"), ("init", "--key-file", "/mnt/key")).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40
    assert all(line.endswith("\\") for line in lines[:-1])
