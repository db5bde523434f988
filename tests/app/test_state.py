"""The state directory: private, written whole or not at all, and plain words for what is wrong in it."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backup.app.base.state import State, parse_recipients
from backup.errors import ConfigError, InventoryDamagedError, NightvaultError, SpoolError
from tests.support.backups import recovery_key


@pytest.fixture
def made(tmp_path: Path) -> State:
    state = State(str(tmp_path / "state"))
    state.create()
    return state


def test_keys_are_drawn_once(made: State) -> None:
    signer = made.write_new_keys()
    assert made.write_new_keys().public == signer.public
    assert made.read_signer().public == signer.public
    files = sorted(os.listdir(made.keys))
    assert files == ["chunk-secret", "signer"]
    for name in files:
        text = Path(made.keys, name).read_text()
        assert len(bytes.fromhex(text.strip())) == 32
        assert os.stat(os.path.join(made.keys, name)).st_mode & 0o777 == 0o600


def test_recipients_and_enrolments_come_back_as_written(made: State) -> None:
    assert made.read_recipients() == ()
    assert made.read_enrolments() == {}
    recipient = recovery_key().recipient
    made.write_recipients([recipient])
    assert parse_recipients(made.read_recipients()) == (recipient,)
    made.add_enrolment(b"a" * 16, b"1" * 32)
    made.add_enrolment(b"b" * 16, b"2" * 32)
    made.add_enrolment(b"a" * 16, b"3" * 32)
    assert made.read_enrolments() == {b"a" * 16: b"3" * 32, b"b" * 16: b"2" * 32}
    made.forget_enrolments()
    assert made.read_enrolments() == {}


@pytest.mark.parametrize("text", ["", "zz", "00" * 31, "00" * 33, "00" * 32 + "zz"])
def test_a_damaged_key_is_named(made: State, text: str) -> None:
    made.write_new_keys()
    Path(made.keys, "chunk-secret").write_text(text)
    with pytest.raises(InventoryDamagedError, match="chunk-secret is damaged") as caught:
        made.read_secret()
    assert "copy of the state directory" in caught.value.advice
    assert "`nightvault rebuild --set-aside --key FILE`" in caught.value.advice


@pytest.mark.parametrize("line", ["zz zz", "00", "00 11 22"])
def test_damaged_enrolments_are_named(made: State, line: str) -> None:
    Path(made.keys, "enrolments").write_text(line + "\n")
    with pytest.raises(InventoryDamagedError, match="enrolments is damaged"):
        made.read_enrolments()


def test_a_file_that_cannot_be_read(made: State) -> None:
    os.mkdir(os.path.join(made.keys, "signer"))
    with pytest.raises(ConfigError, match=r"signer cannot be read: .*directory"):
        made.read_signer()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, SpoolError), (errno.EIO, NightvaultError)])
def test_a_disk_that_fails_leaves_the_old_file(
    made: State, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[NightvaultError]
) -> None:
    made.add_enrolment(b"a" * 16, b"1" * 32)

    def fail(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match="enrolments"):
        made.add_enrolment(b"b" * 16, b"2" * 32)
    assert os.listdir(made.keys) == ["enrolments"]
    assert made.read_enrolments() == {b"a" * 16: b"1" * 32}


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NightvaultError, match="cannot be made") as caught:
        State(str(tmp_path / "file" / "state")).create()
    assert "dir in [state]" in caught.value.advice


def test_recipients_have_a_fixed_order() -> None:
    texts = [recovery_key().recipient.to_text()]
    assert parse_recipients(texts) == parse_recipients(texts[::-1])
    assert parse_recipients([]) == ()


def test_enrolments_of_several_processes_are_all_kept(made: State) -> None:
    """Two that write at once keep each other's lines."""
    ids = [bytes([number]) * 16 for number in range(24)]
    with ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda public: made.add_enrolment(public, bytes(32)), ids))
    assert set(made.read_enrolments()) == set(ids)
