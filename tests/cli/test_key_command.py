"""`nightvault key`: keys made off the server, and enrolment carried there and back; no secret on the way."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from backup.format.keys import RecoveryKey, plain_key_file
from tests.support.servers import Server, directory_server
from tests.support.trees import assert_same_tree


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return directory_server(tmp_path)


def generate(server: Server, name: str) -> dict[str, str]:
    made: dict[str, str] = server.json("key", "generate", "--out", server.folder / name)
    return made


def seal_for(server: Server, *made: dict[str, str]) -> None:
    text = server.config.read_text().partition("[state]")[2]
    recipients = json.dumps([one["recipient"] for one in made])
    server.config.write_text(f"[encryption]\nrecipients = {recipients}\n[state]{text}")


def enroll(server: Server, name: str) -> None:
    """Carry a request to the key and the answer back."""
    (server.folder / "request").write_text(server.done("key", "request").stdout)
    answer = server.done("key", "enroll", server.folder / "request", "--key", server.folder / name).stdout
    (server.folder / "answer").write_text(answer)
    server.done("key", "accept", server.folder / "answer")


def test_generate_and_show(server: Server, tmp_path: Path) -> None:
    made = generate(server, "one.key")
    assert made["recipient"].startswith("nvr1")
    assert server.json("key", "show", tmp_path / "one.key") == {
        "id": made["id"],
        "recipient": made["recipient"],
    }
    assert server.done("key", "show", tmp_path / "one.key").stdout == made["recipient"] + "\n"
    assert oct((tmp_path / "one.key").stat().st_mode & 0o777) == "0o600"
    assert "never written over" in server.fails(2, "key", "generate", "--out", tmp_path / "one.key")
    assert "cannot write" in server.fails(2, "key", "generate", "--out", tmp_path / "no" / "x.key")
    (tmp_path / "bad.key").write_bytes(b"\x00\xff")
    server.fails(12, "key", "show", tmp_path / "bad.key")


def test_a_key_file_with_a_passphrase_can_be_shown(server: Server, tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("pass phrase\n")
    (tmp_path / "empty").write_text("\n")
    words = ("--passphrase-file", tmp_path / "pass")
    made = server.json("key", "generate", "--out", tmp_path / "one.key", *words)
    assert server.json("key", "show", tmp_path / "one.key", *words)["id"] == made["id"]
    assert "passphrase" in server.fails(12, "key", "show", tmp_path / "one.key")
    told = server.fails(2, "key", "show", tmp_path / "one.key", "--passphrase-file", tmp_path / "empty")
    assert "is empty" in told


def test_enrolment_by_carrying_files(server: Server, tmp_path: Path) -> None:
    made = generate(server, "one.key")
    seal_for(server, made)
    server.done("init")
    assert server.json("key", "status")["recipients"] == [{"id": made["id"], "enrolled": False}]
    enroll(server, "one.key")
    assert server.json("key", "status")["recipients"] == [{"id": made["id"], "enrolled": True}]
    assert f"{made['id']}  yes" in server.done("key", "status").stdout
    server.backup()
    out = tmp_path / "out"
    server.done("restore", "latest", "--target", out, "--key", tmp_path / "one.key")
    assert_same_tree(Path(str(out) + str(server.source)), server.source)


def test_each_of_several_keys_restores_and_one_may_vouch_alone(server: Server, tmp_path: Path) -> None:
    one, two, other = (generate(server, f"{name}.key") for name in ("one", "two", "other"))
    seal_for(server, one, two)
    server.done("init")
    enroll(server, "two.key")
    status = {each["id"]: each["enrolled"] for each in server.json("key", "status")["recipients"]}
    assert status == {one["id"]: False, two["id"]: True}
    assert sorted(server.backup()["recipients"]) == sorted([one["id"], two["id"]])
    for name in ("one", "two"):
        server.done("restore", "latest", "--target", tmp_path / name, "--key", tmp_path / f"{name}.key")
        assert_same_tree(Path(str(tmp_path / name) + str(server.source)), server.source)
    told = server.fails(12, "key", "enroll", tmp_path / "request", "--key", tmp_path / "other.key")
    assert f"does not seal for the recipient {other['id']}" in told
    assert one["id"] in told


def test_what_is_no_request_or_no_enrolment(server: Server, tmp_path: Path) -> None:
    seal_for(server, generate(server, "one.key"))
    server.done("init")
    enroll(server, "one.key")
    key = ("--key", tmp_path / "one.key")
    for text in ("", "[]", '{"kind": "x"}', (tmp_path / "answer").read_text()):
        (tmp_path / "bad").write_text(text)
        assert "this is not a nightvault enrolment request" in server.fails(
            2, "key", "enroll", tmp_path / "bad", *key
        )
    for change in ({"tag": "zz"}, {"tag": None}, {"inventory": "00" * 16}, {"recipient": "00" * 16}):
        (tmp_path / "bad").write_text(json.dumps(json.loads((tmp_path / "answer").read_text()) | change))
        assert "nrolment" in server.fails(2, "key", "accept", tmp_path / "bad")
    (tmp_path / "bad").write_bytes(b"\xff\xfe\x00")
    assert "it is not a text" in server.fails(2, "key", "accept", tmp_path / "bad")
    server.fails(2, "key", "enroll", tmp_path / "none", *key)


def test_changed_recipients_stop_the_run_until_they_are_accepted(server: Server, tmp_path: Path) -> None:
    one, two = generate(server, "one.key"), generate(server, "two.key")
    seal_for(server, one)
    server.done("init")
    first = server.backup()
    seal_for(server, two)
    told = server.fails(2, "backup")
    assert "are not those of its last backup" in told
    assert "--accept-recipients" in told
    assert "find out who did" in told
    assert len(server.json("snapshots")) == 1

    (server.source / "new.txt").write_text("new")
    (second,) = server.json("backup", "--accept-recipients")
    assert second["recipients"] == [two["id"]]
    assert server.backup()["recipients"] == [two["id"]]  # said once
    (older,) = server.json("key", "status")["older_packs"]
    assert (older["sealed_for"], older["packs"]) == ([one["id"]], 1)
    assert f"need the recovery key of {one['id']}" in server.done("key", "status").stderr
    assert "--reread" in server.done("backup").stderr
    words = ("--key", tmp_path / "two.key")
    told = server.fails(12, "restore", first["snapshot"], "--target", tmp_path / "no", *words)
    assert f"sealed for {one['id']}" in told
    new = f"{second['snapshot']}:{server.source}/new.txt"
    server.done("restore", new, "--target", tmp_path / "out", *words)
    assert (tmp_path / "out" / "new.txt").read_text() == "new"
    both = ("--key", tmp_path / "one.key", *words)
    server.done("restore", second["snapshot"], "--target", tmp_path / "all", *both)


def test_without_recipients_nothing_is_sealed(server: Server) -> None:
    server.init()
    (server.state / "keys" / "recipients").unlink()
    assert "there is no recipient to seal for" in server.fails(2, "backup")
    assert "there is no recipient to seal for" in server.fails(2, "key", "status")


def test_no_secret_is_ever_printed(server: Server, tmp_path: Path) -> None:
    seed = os.urandom(32)
    key = RecoveryKey.from_seed(seed)
    (tmp_path / "known.key").write_bytes(plain_key_file(key))
    seal_for(server, {"recipient": key.recipient.to_text()})
    server.done("init", "--verbose")
    enroll(server, "known.key")
    server.done("--verbose", "backup")
    for text in ("backup", "snapshots", "runs", "archives", "vaults", "key status", "config check"):
        server.done(*text.split())
        server.json(*text.split())
    server.done("key", "show", tmp_path / "known.key")
    restore = ("restore", "latest", "--key", tmp_path / "known.key", "--target")
    server.done(*restore, tmp_path / "one")
    (server.state / "keys" / "enrolments").write_text("zz\n")
    server.fails(1, "backup")
    printed = "".join(server.printed).lower()
    assert len(printed) > 1000
    for secret in (
        seed.hex(),
        key.to_text().lower(),
        (server.state / "keys" / "signer").read_text().strip(),
        (server.state / "keys" / "chunk-secret").read_text().strip(),
    ):
        assert len(secret) > 40
        assert secret not in printed


def test_rebuild_with_the_keys_of_today_and_of_before(server: Server, tmp_path: Path) -> None:
    """Defects 3 and 4: after a change of recipients, by the command line; today's key vouches for itself."""
    one, two = generate(server, "one.key"), generate(server, "two.key")
    seal_for(server, one)
    server.done("init")
    enroll(server, "one.key")
    server.backup()
    seal_for(server, two)
    enroll(server, "two.key")
    (server.source / "new.txt").write_text("new")
    (second,) = server.json("backup", "--accept-recipients")
    assert second["older_packs"]["newest_files"] > 0
    old, new = ("--key", tmp_path / "one.key"), ("--key", tmp_path / "two.key")
    for keys in (new, (*new, *old), (*old, *new)):
        shutil.rmtree(server.state)
        document = server.json("rebuild", *keys)
        assert (document["jobs"][0]["snapshots"], document["not_enrolled"]) == (2, [])
        assert server.json("key", "status")["recipients"] == [{"id": two["id"], "enrolled": True}]
    assert f"names {two['id']}" in server.fails(12, "rebuild", "--set-aside", *old)
    words = ("restore", "latest", "--target")
    server.fails(12, *words, tmp_path / "no", *new)
    server.json("backup", "--reread")
    server.done(*words, tmp_path / "out", *new)
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)
