"""`nightvault init`: what it makes, what it asks, what it refuses, and that it can be run again at will."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.app.base.state import State
from backup.format.keys import RecoveryKey
from tests.support.servers import Server, directory_server
from tests.support.terminals import Terminal
from tests.support.trees import assert_same_tree


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return directory_server(tmp_path)


def recipient() -> str:
    return RecoveryKey.from_seed(os.urandom(32)).recipient.to_text()


def modes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): oct(path.lstat().st_mode & 0o777) for path in sorted(folder.rglob("*"))
    }


def test_a_key_file_is_made_and_the_signer_enrolled(server: Server) -> None:
    made = server.json("init", "--key-file", server.key_file)
    assert (made["created"], made["enrolled"], len(made["recipients"])) == (True, 1, 1)
    assert (made["vaults"], made["key_file"]) == (["cold"], str(server.key_file))
    assert oct(server.key_file.stat().st_mode & 0o777) == "0o600"
    again = server.json("init", "--key-file", server.key_file)
    assert again == made | {"created": False, "key_file": None}
    told = server.done("init", "--key-file", server.folder / "another.key")
    assert "no recovery key was made" in told.stderr
    assert not (server.folder / "another.key").exists()


def test_a_policy_is_proposed_until_a_job_has_one(server: Server) -> None:
    """As the config has it: what is proposed can be copied as it stands."""
    told = server.done("init", "--key-file", server.key_file).stderr
    _, _, proposed = told.partition("    [job.retention]\n")
    lines = [line.strip() for line in proposed.splitlines() if line.startswith("    ")]
    assert lines == ['keep_within = "30d"', "keep_weekly = 8", "keep_monthly = 12", "keep_yearly = 3"]
    with server.config.open("a") as file:
        file.write("\n".join(["", "[job.retention]", *lines, ""]))
    assert "retention" not in server.done("init").stderr
    words = "all within 30 days, 8 weekly, 12 monthly, 3 yearly"
    assert f"keeps {words}, forgets after backup\n" in server.done("config", "check").stdout
    job = server.json("config", "check")["jobs"][0]
    assert (job["keeps"], job["forget"]) == (words, "after backup")


def test_everything_in_the_state_directory_is_for_its_owner_alone(server: Server) -> None:
    before = os.umask(0)
    try:
        server.init()
        server.backup()
        waiting = server.run("restore", "latest", "--target", server.folder / "out", "--key", server.key_file)
        assert waiting.exit_code == 0
    finally:
        os.umask(before)
    assert oct(server.state.stat().st_mode & 0o777) == "0o700"
    found = modes(server.state)
    assert found["keys/signer"] == found["inventory.sqlite"] == "0o600"
    expected = {name: "0o700" if (server.state / name).is_dir() else "0o600" for name in found}
    assert found == expected


def test_directories_that_are_open_to_others_are_closed(server: Server) -> None:
    (server.state / "keys").mkdir(parents=True, mode=0o755)
    server.init()
    assert modes(server.state)["keys"] == "0o700"


def test_nobody_to_show_a_key_to(server: Server) -> None:
    for words in (["init"], ["init", "--non-interactive"], ["--json", "init"]):
        told = server.fails(2, *words)
        assert "where is the new recovery key to go?" in told
        assert "--key-file" in told
    assert not server.state.exists()


def test_a_recipient_needs_no_key(server: Server) -> None:
    text = recipient()
    result = server.done("init", "--recipient", text)
    assert "enrolled by 0 of 1 recipient" in result.stdout
    assert "key request" in result.stderr
    assert server.json("init")["enrolled"] == 0
    assert "seals for other recipients already" in server.fails(2, "init", "--recipient", recipient())
    assert server.json("init", "--recipient", text)["created"] is False
    server.fails(2, "init", "--recipient", "nvr1nonsense")


def test_recipients_of_the_config(server: Server) -> None:
    texts = [recipient(), recipient()]
    server.config.write_text(f"[encryption]\nrecipients = {texts}\n" + server.config.read_text())
    assert len(server.json("init")["recipients"]) == 2
    assert not (server.state / "keys" / "recipients").exists()
    assert "--key-file" not in server.done("init", "--key-file", server.key_file).stdout
    assert not server.key_file.exists()


def test_a_key_file_with_a_passphrase(server: Server, tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("battery staple\n")
    assert "--key-file" in server.fails(2, "init", "--passphrase-file", tmp_path / "pass")
    server.done("init", "--key-file", server.key_file, "--passphrase-file", tmp_path / "pass")
    assert b"correct horse" not in server.key_file.read_bytes()
    server.backup()
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", server.key_file)
    assert "passphrase" in server.fails(12, *words)
    server.fails(12, *words, "--passphrase-file", tmp_path / "wrong")
    assert "cannot read the passphrase file" in server.fails(2, *words, "--passphrase-file", tmp_path / "no")
    server.done(*words, "--passphrase-file", tmp_path / "pass")
    assert_same_tree(Path(str(tmp_path / "out") + str(server.source)), server.source)


def test_a_key_file_is_never_written_over(server: Server) -> None:
    server.key_file.write_text("mine")
    told = server.fails(2, "init", "--key-file", server.key_file)
    assert "is there already" in told
    assert server.key_file.read_text() == "mine"
    server.key_file.unlink()
    server.init()  # nothing was sealed for the key that nobody has
    assert server.json("key", "status")["recipients"][0]["enrolled"] is True


def test_a_state_directory_that_cannot_be_made(server: Server) -> None:
    server.state.write_text("a file")
    told = server.fails(1, "init", "--key-file", server.key_file)
    assert str(server.state) in told
    assert "dir in [state]" in told
    assert not server.key_file.exists()


def test_keys_of_another_inventory_are_refused(server: Server) -> None:
    server.init()
    keys = server.state / "keys"
    good = (keys / "signer").read_text()
    (keys / "signer").write_text("00" * 32 + "\n")
    for words in (["init"], ["backup"], ["key", "status"]):
        assert "is not the one that this inventory was made with" in server.fails(1, *words)
    (keys / "signer").write_text("nonsense\n")
    assert "is damaged" in server.fails(1, "backup")
    (keys / "signer").unlink()
    for words in (["init"], ["backup"]):
        assert "signer is gone" in server.fails(1, *words)
    assert not (keys / "signer").exists()  # a new one would sign what could not be restored
    (keys / "signer").write_text(good)
    (keys / "enrolments").write_text("zz\n")
    assert "enrolments is damaged" in server.fails(1, "backup")
    (keys / "enrolments").unlink()
    (keys / "chunk-secret").write_bytes(b"\xff\xfe")
    assert "chunk-secret is damaged" in server.fails(1, "backup")


def test_a_new_inventory_forgets_who_vouched_for_the_old_one(server: Server) -> None:
    server.init()
    for file in server.state.glob("inventory.sqlite*"):
        file.unlink()
    made = server.json("init")
    assert (made["created"], made["enrolled"], len(made["recipients"])) == (True, 0, 1)
    assert State(str(server.state)).read_enrolments() == {}


@pytest.mark.parametrize(
    ("path", "said"), [("{here}/file", "{here}/file is no directory"), ("/proc/v", "/proc/v lies in /proc")]
)
def test_a_second_vault_that_cannot_be_is_named(server: Server, path: str, said: str) -> None:
    (server.folder / "file").touch()
    second = '[[vault]]\nname = "second"\nkind = "directory"\npath = "{}"\n'
    with server.config.open("a") as file:
        file.write(second.format(path.format(here=server.folder)))
    told = server.fails(1, "init", "--non-interactive", "--key-file", server.key_file)
    assert f"nightvault: vault second: {said.format(here=server.folder)}" in told
    assert "set path in its [[vault]]" in told


def test_vaults_can_come_later(server: Server, tmp_path: Path) -> None:
    assert server.json("init", "--no-vaults", "--key-file", server.key_file)["vaults"] == []
    assert not (tmp_path / "vault").exists()
    assert server.json("init")["vaults"] == ["cold"]
    assert (tmp_path / "vault").is_dir()


# On a terminal, where the key is shown once.


def shown_key(text: str) -> str:
    return next(line.strip() for line in text.splitlines() if line.strip().startswith("NVK1-"))


def test_the_key_is_shown_once_and_confirmed(server: Server, tmp_path: Path) -> None:
    terminal = Terminal("--config", server.config, "init")
    terminal.wait_for("Did you write it down")
    assert not (server.state / "keys" / "recipients").exists()  # not before somebody has it
    terminal.answer("n")
    terminal.wait_for("take your time")
    terminal.answer("y")
    assert terminal.end() == 0
    assert "enrolled by 1 of 1 recipient" in terminal.text
    key = shown_key(terminal.text)
    for path in server.state.rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes()

    server.backup()
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", "-")
    server.done(*words, typed=key + "\n")
    assert_same_tree(Path(str(tmp_path / "out") + str(server.source)), server.source)

    asked = Terminal("--config", server.config, "restore", "latest", "--target", tmp_path / "two")
    asked.wait_for("recovery key")
    asked.answer(key)
    assert asked.end() == 0
    assert key not in asked.text  # what is typed is not shown
    assert_same_tree(Path(str(tmp_path / "two") + str(server.source)), server.source)


def test_whoever_turns_away_has_no_recipient(server: Server) -> None:
    terminal = Terminal("--config", server.config, "init")
    terminal.wait_for("Did you write it down")
    assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    assert terminal.text.splitlines()[-1] == "nightvault: interrupted", "on a line of its own"
    told = [line for line in terminal.text.splitlines() if "NVK1-" not in line and "nvr1" not in line]
    assert max(map(len, told)) <= 80
    server.fails(2, "init")  # a key is still to be made
    server.init()
    assert server.json("key", "status")["recipients"][0]["enrolled"] is True
