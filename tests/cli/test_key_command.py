"""`nightvault key`: keys made off the server, and enrolment carried there and back; no secret on the way."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.state import SignedEnrolment, State
from backup.cli.support.context import Cli
from backup.format.enrolment import EnrolmentKey, enrol, enrolment_key, sign_request
from backup.format.keys import RecoveryKey, Signer, plain_key_file
from backup.model import InventoryId
from backup.source import freshness
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
    recipients = json.dumps([key["recipient"] for key in made])
    server.config.write_text(f"[encryption]\nrecipients = {recipients}\n[state]{text}")


def recipients(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.json("key", "status")["recipients"]
    return found


def enroll(server: Server, name: str) -> None:
    """Carry a request to the key and the answer back."""
    (server.folder / "request").write_text(server.done("key", "request").stdout)
    words = ("key", "enroll", server.folder / "request", "--key", server.folder / name, "--yes")
    (server.folder / "answer").write_text(server.done(*words).stdout)
    server.done("key", "accept", server.folder / "answer")


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, True), (0o600, False), (0o400, False)])
def test_a_key_that_others_may_read_is_named(server: Server, mode: int, warned: bool) -> None:
    generate(server, "one.key")
    path = server.folder / "one.key"
    path.chmod(mode)
    told = server.done("key", "show", path).stderr
    assert (f"chmod 600 {path}" in told) is warned


def test_of_a_key_with_a_passphrase_no_readers_are_named(server: Server) -> None:
    phrase = server.folder / "phrase"
    phrase.write_text("a phrase of words\n")
    server.done("key", "generate", "--out", server.folder / "two.key", "--passphrase-file", phrase)
    (server.folder / "two.key").chmod(0o644)
    shown = server.done("key", "show", server.folder / "two.key", "--passphrase-file", phrase)
    assert "chmod" not in shown.stderr


def test_a_passphrase_file_that_is_not_there_is_named_for_a_key_without_one_too(server: Server) -> None:
    server.done("key", "generate", "--out", server.folder / "one.key")
    words = ("key", "show", server.folder / "one.key", "--passphrase-file", server.folder / "nope")
    assert f"cannot read the passphrase file {server.folder / 'nope'}" in server.fails(2, *words)


def test_generate_and_show(server: Server, tmp_path: Path) -> None:
    made = generate(server, "one.key")
    assert made["recipient"].startswith("nvr1")
    shown = server.json("key", "show", tmp_path / "one.key")
    assert (shown["id"], shown["recipient"]) == (made["id"], made["recipient"])
    assert EnrolmentKey.from_text(shown["enrolment_key"]).fingerprint == shown["enrolment_fingerprint"]
    assert shown["enrolment_fingerprint"] in server.done("key", "show", tmp_path / "one.key").stderr
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
    none = {"enrolment_key": None, "enrolment_fingerprint": None}
    assert recipients(server) == [{"id": made["id"], "enrolled": False, "signed": False, **none}]
    enroll(server, "one.key")
    by = server.json("key", "show", tmp_path / "one.key")
    key = {name: by[name] for name in none}
    assert recipients(server) == [{"id": made["id"], "enrolled": True, "signed": True, **key}]
    told = server.done("key", "status")
    assert f"{made['id']}  yes       {by['enrolment_fingerprint']}" in told.stdout
    server.backup()
    out = tmp_path / "out"
    server.done("restore", "latest", "--target", out, "--key", tmp_path / "one.key")
    assert_same_tree(Path(str(out) + str(server.source)), server.source)


def test_each_of_several_keys_restores_and_one_may_vouch_alone(server: Server, tmp_path: Path) -> None:
    one, two, other = (generate(server, f"{name}.key") for name in ("one", "two", "other"))
    seal_for(server, one, two)
    server.done("init")
    enroll(server, "two.key")
    status = {
        recipient["id"]: recipient["enrolled"] for recipient in server.json("key", "status")["recipients"]
    }
    assert status == {one["id"]: False, two["id"]: True}
    assert sorted(server.backup()["recipients"]) == sorted([one["id"], two["id"]])
    for name in ("one", "two"):
        server.done("restore", "latest", "--target", tmp_path / name, "--key", tmp_path / f"{name}.key")
        assert_same_tree(Path(str(tmp_path / name) + str(server.source)), server.source)
    told = server.fails(12, "key", "enroll", tmp_path / "request", "--key", tmp_path / "other.key", "--yes")
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


def test_changed_recipients_stop_the_run_until_they_are_accepted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "write_back_reach", lambda: 0)  # as if the files were a minute old
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


def test_rebuild_with_the_keys_of_today_and_of_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of recipients, by the command line; today's key vouches for itself."""
    monkeypatch.setattr(freshness, "write_back_reach", lambda: 0)  # as if the files were a minute old
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
        (status,) = recipients(server)
        assert (status["id"], status["enrolled"]) == (two["id"], True)
    assert f"names {two['id']}" in server.fails(12, "rebuild", "--set-aside", *old)
    words = ("restore", "latest", "--target")
    server.fails(12, *words, tmp_path / "no", *new)
    server.json("backup", "--reread")
    server.done(*words, tmp_path / "out", *new)
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)


# What `key enroll` takes, and what it does not.

INTRUDER = Signer(b"i" * 32)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is there to answer."""
    monkeypatch.setattr(Cli, "can_ask", property(lambda _: True))


@pytest.fixture
def asking(server: Server) -> Server:
    """A server whose request is in the file `request`; its recovery key `one.key` has not vouched for it."""
    seal_for(server, generate(server, "one.key"))
    server.done("init")
    (server.folder / "request").write_text(server.done("key", "request").stdout)
    return server


@pytest.fixture
def rebuilt(server: Server) -> Server:
    """The same of a server that was rebuilt by another recovery key, `two.key`."""
    seal_for(server, generate(server, "one.key"), generate(server, "two.key"))
    server.done("init")
    enroll(server, "two.key")
    server.backup()
    shutil.rmtree(server.state)
    server.json("rebuild", "--key", server.folder / "two.key")
    (server.folder / "request").write_text(server.done("key", "request").stdout)
    return server


def enrolling(server: Server, *more: object) -> tuple[object, ...]:
    return ("key", "enroll", server.folder / "request", "--key", server.folder / "one.key", *more)


def asked(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((server.folder / "request").read_text())
    return found


def ask(server: Server, **changes: object) -> None:
    """Change the request on its way; a value of None takes the field away."""
    fields = {name: value for name, value in (asked(server) | changes).items() if value is not None}
    (server.folder / "request").write_text(json.dumps(fields))


def swapped(server: Server, signer: Signer = INTRUDER, **changes: Any) -> None:
    """Put a request of somebody else in its place, which is signed as it must be."""
    fields = asked(server) | {"signer": signer.public.hex()} | changes
    inventory = InventoryId(bytes.fromhex(fields["inventory"]))
    lists = [list(map(bytes.fromhex, fields[name])) for name in ("recipients", "ancestors")]
    signature = sign_request(signer, inventory, lists[0], list(map(InventoryId, lists[1])))
    ask(server, **(fields | {"signature": signature.hex()}))


def test_request_and_enrolment_are_signed(asking: Server, tmp_path: Path) -> None:
    request = asking.json("key", "request")
    assert list(request) == ["kind", "inventory", "signer", "recipients", "ancestors", "signature"]
    assert (request["ancestors"], len(request["signature"])) == ([], 128)
    enrolment = asking.json(*enrolling(asking, "--yes"))
    names = ["kind", "inventory", "signer", "recipient", "tag", "ancestors", "signature", "enrolment_key"]
    assert list(enrolment) == names
    key = EnrolmentKey.from_text(enrolment["enrolment_key"])
    about = InventoryId(bytes.fromhex(request["inventory"])), bytes.fromhex(request["signer"])
    assert key.vouches(*about, [], bytes.fromhex(enrolment["signature"]))
    (tmp_path / "answer").write_text(json.dumps(enrolment))
    assert asking.json("key", "accept", tmp_path / "answer") == {
        "recipient": enrolment["recipient"],
        "signed": True,
        "enrolment_key": enrolment["enrolment_key"],
        "enrolment_fingerprint": key.fingerprint,
    }
    assert (
        f"{enrolment['recipient']}: {key.fingerprint}"
        in asking.done("key", "accept", tmp_path / "answer").stderr
    )
    typed = (tmp_path / "answer").read_text()
    assert asking.run("key", "accept", "-", typed=typed).exit_code == 0


@pytest.mark.usefixtures("terminal")
def test_both_sides_show_the_same_and_a_person_is_asked(asking: Server) -> None:
    """F8: a swapped request is seen, as its fingerprint is not the one that the server shows."""
    status = asking.json("key", "status")
    lines = f"inventory {status['inventory']}\nsigner    {status['signer']}\n"
    for words in (("key", "status"), ("key", "request"), enrolling(asking, "--yes")):
        assert lines in asking.done(*words).stderr
    for quiet in ((), ("--quiet",)):
        told = asking.done(*quiet, *enrolling(asking), typed="y\n").stderr
        assert lines in told
        assert "compare with `nightvault key status` on the server" in told
    refused = asking.run(*enrolling(asking), typed="n\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "nothing was enrolled" in refused.stderr
    swapped(asking)
    told = asking.run(*enrolling(asking), typed="n\n").stderr
    assert f"signer    {INTRUDER.fingerprint.hex()}\n" in told
    assert status["signer"] not in told


def test_where_nobody_can_answer_yes_must_be_given(asking: Server) -> None:
    told = asking.fails(2, *enrolling(asking))
    assert "there is no terminal for the answer" in told
    assert "--yes" in told


def test_other_lengths_are_refused(asking: Server) -> None:
    """F8: an inventory of 15 bytes and a signer of 33 give the tag of 16 and 32."""
    request = asked(asking)
    joined = request["inventory"] + request["signer"]
    wrong: list[tuple[dict[str, object], str]] = [
        ({"inventory": joined[:30], "signer": joined[30:]}, "inventory has 30 hex digits where 32 belong"),
        ({"signer": request["signer"] + "00"}, "signer has 66 hex digits where 64 belong"),
        (
            {"inventory": request["inventory"][:31] + " "},
            "inventory is missing, or not written in hex digits",
        ),
        ({"inventory": None}, "inventory is missing"),
        ({"recipients": ["00" * 17]}, "one of its recipients has 34 hex digits where 32 belong"),
        ({"recipients": "00"}, "recipients are not a list"),
        ({"ancestors": ["00" * 15]}, "one of its ancestors has 30 hex digits where 32 belong"),
        ({"ancestors": [1]}, "one of its ancestors is missing, or not written in hex digits"),
        ({"ancestors": [f"{number:032x}" for number in range(1001)]}, "not a list of 1,000 at most"),
        ({"ancestors": ["00" * 16] * 2}, "name one inventory twice"),
        ({"ancestors": [request["inventory"]]}, "or the inventory itself"),
        ({"signature": "00" * 63}, "signature has 126 hex digits where 128 belong"),
        ({"signature": "00" * 64}, "is wrong: it was changed on its way"),
        ({"signer": INTRUDER.public.hex()}, "is wrong: it was changed on its way"),
        ({"ancestors": ["00" * 16]}, "is wrong: it was changed on its way"),
        ({"ancestors": ["00" * 16], "signature": None}, "names ancestors, and has no signature"),
    ]
    for changes, sentence in wrong:
        (asking.folder / "request").write_text(json.dumps(request))
        ask(asking, **changes)
        assert sentence in asking.fails(2, *enrolling(asking, "--yes", "--heir-of", "0" * 32))


@pytest.mark.usefixtures("terminal")
def test_a_request_with_ancestors_wants_the_nearest_named(rebuilt: Server) -> None:
    """Neither --yes nor an answer: a swapped request would make somebody else that server's heir."""
    (ancestor,) = asked(rebuilt)["ancestors"]
    for more in ((), ("--yes",)):
        told = rebuilt.fails(2, *enrolling(rebuilt, *more), typed="y\n")
        assert f"ancestor  {ancestor}\n" in told
        assert "neither --yes nor an answer" in told
        command = shlex.join([*map(str, ("nightvault", *enrolling(rebuilt))), "--heir-of", ancestor])
        assert command in told
    other = asked(rebuilt)["inventory"]
    assert f"with inventory {ancestor}, not {other}" in rebuilt.fails(
        2, *enrolling(rebuilt, "--yes", "--heir-of", other)
    )
    for short in (ancestor[:7], ancestor + "0", "latest", ""):
        assert "is not an inventory's id" in rebuilt.fails(2, *enrolling(rebuilt, "--heir-of", short))
    assert rebuilt.run(*enrolling(rebuilt, "--heir-of", ancestor), typed="n\n").exit_code == 2
    for named in (ancestor, ancestor[:8].upper()):
        told = rebuilt.done(*enrolling(rebuilt, "--heir-of", named), typed="y\n").stderr
        assert f"ancestor  {ancestor}\n" in told
    answer = rebuilt.done(*enrolling(rebuilt, "--heir-of", ancestor, "--yes")).stdout
    (rebuilt.folder / "answer").write_text(answer)
    rebuilt.done("key", "accept", rebuilt.folder / "answer")
    status = rebuilt.json("key", "status")
    assert status["ancestors"] == [ancestor]
    assert [recipient["signed"] for recipient in status["recipients"]] == [True, True]
    assert f"ancestor  {ancestor}\n" in rebuilt.done("key", "status").stderr


def test_a_swapped_request_makes_nobody_an_heir(asking: Server) -> None:
    """The case of the intruder: his signer and inventory, with the victim as his ancestor."""
    mine = asked(asking)["inventory"]
    swapped(asking, inventory="11" * 16, ancestors=[mine])
    assert f"goes on with inventory {mine}" in asking.fails(2, *enrolling(asking, "--yes"))


def test_heir_of_for_a_server_that_was_not_rebuilt(asking: Server) -> None:
    told = asking.fails(2, *enrolling(asking, "--yes", "--heir-of", "0" * 32))
    assert "this request names no ancestors" in told


def test_a_request_of_an_older_version_is_taken_without_ancestors(rebuilt: Server, tmp_path: Path) -> None:
    """What 0.1.0 prints has neither signature nor ancestors; of the answer the tag is kept."""
    ask(rebuilt, ancestors=None, signature=None)
    done = rebuilt.done(*enrolling(rebuilt, "--yes"))
    assert "of an older version: it is not signed" in done.stderr
    assert json.loads(done.stdout)["ancestors"] == []
    (tmp_path / "answer").write_text(done.stdout)
    told = rebuilt.done("key", "accept", tmp_path / "answer").stderr
    assert "its proof of ancestors was not kept" in told
    document = rebuilt.json("key", "accept", tmp_path / "answer")
    assert (document["signed"], document["enrolment_key"]) == (False, None)
    found = {
        recipient["id"]: (recipient["enrolled"], recipient["signed"]) for recipient in recipients(rebuilt)
    }
    assert found[document["recipient"]] == (True, False)
    shown = rebuilt.done("key", "status").stdout
    assert f"{document['recipient']}  yes       older: it proves no ancestors" in shown


def test_an_enrolment_of_an_older_version_is_kept_as_before(asking: Server, tmp_path: Path) -> None:
    enrolment = asking.json(*enrolling(asking, "--yes"))
    older = {name: enrolment[name] for name in ("kind", "inventory", "signer", "recipient", "tag")}
    (tmp_path / "answer").write_text(json.dumps(older, indent=2))
    assert asking.json("key", "accept", tmp_path / "answer")["signed"] is False
    assert [(recipient["enrolled"], recipient["signed"]) for recipient in recipients(asking)] == [
        (True, False)
    ]
    assert asking.backup()["warnings"] == []


def test_enrolments_that_are_not_as_they_must_be(asking: Server, tmp_path: Path) -> None:
    enrolment = asking.json(*enrolling(asking, "--yes"))
    other = enrolment_key(RecoveryKey(bytes(32))).to_text()
    older = {name: enrolment[name] for name in ("kind", "inventory", "signer", "recipient", "tag")}
    wrong: list[tuple[dict[str, Any], str]] = [
        (older | {"signer": "00" * 32}, "made for another inventory or signer"),
        (older | {"recipient": "00" * 16}, "a recipient that we do not seal for"),
        (enrolment | {"tag": "00" * 31}, "tag has 62 hex digits where 64 belong"),
        (enrolment | {"ancestors": ["00" * 16]}, "is not by the enrolment key in it"),
        (enrolment | {"enrolment_key": other}, "is not by the enrolment key in it"),
        (enrolment | {"enrolment_key": other[:-1]}, "this is not an enrolment key"),
        (enrolment | {"enrolment_key": 5}, "this is not an enrolment key"),
        (enrolment | {"signature": None}, "signature is missing"),
    ]
    for document, sentence in wrong:
        (tmp_path / "bad").write_text(json.dumps(document))
        assert sentence in asking.fails(2, "key", "accept", tmp_path / "bad")
    assert recipients(asking)[0]["enrolled"] is False


def test_another_enrolment_key_of_a_known_recipient(asking: Server, tmp_path: Path) -> None:
    """A recovery key has but one: one of the two is not its own, and a person must say which."""
    (tmp_path / "answer").write_text(asking.done(*enrolling(asking, "--yes")).stdout)
    right = EnrolmentKey.from_text(json.loads((tmp_path / "answer").read_text())["enrolment_key"])
    intruder = RecoveryKey(bytes(32))
    wrong = enrolment_key(intruder)
    recipient = bytes.fromhex(asked(asking)["recipients"][0])
    status = asking.json("key", "status")
    about = InventoryId(bytes.fromhex(status["inventory"])), bytes.fromhex(asked(asking)["signer"])
    forged = SignedEnrolment(wrong, enrol(intruder, *about, []))
    State(str(asking.state)).add_signed_enrolment(recipient, forged)
    accept = ("key", "accept", tmp_path / "answer")
    told = asking.fails(2, *accept)
    assert "there is no terminal for the answer" in told
    assert right.fingerprint in told
    assert wrong.fingerprint in told
    assert (recipients(asking)[0]["enrolled"], recipients(asking)[0]["signed"]) == (False, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cli, "can_ask", property(lambda _: True))
        assert "nothing was kept" in asking.fails(2, *accept, typed="\n")
        asking.done(*accept, typed="y\n")
    assert recipients(asking)[0]["enrolment_fingerprint"] == right.fingerprint
    asking.done(*accept)  # the same again asks nothing


# Many servers.


@pytest.fixture
def fleet(tmp_path: Path) -> list[Server]:
    """Three servers that seal for `one.key` of the first; all requests are in its file `requests`."""
    servers = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        servers.append(directory_server(tmp_path / name))
    made = generate(servers[0], "one.key")
    lines = []
    for server in servers:
        seal_for(server, made)
        server.done("init")
        lines.append(server.done("key", "request").stdout)
    (servers[0].folder / "requests").write_text("\n".join(lines))
    return servers


def enrolling_all(server: Server, *more: object) -> tuple[object, ...]:
    folder = server.folder
    words = ("--requests", folder / "requests", "--out", folder / "out", "--key", folder / "one.key")
    return ("key", "enroll", *words, *more)


def test_many_requests_at_once(fleet: list[Server]) -> None:
    first = fleet[0]
    shown = [server.json("key", "status") for server in fleet]
    done = first.json(*enrolling_all(first, "--yes"))
    whose = [{"inventory": request["inventory"], "signer": request["signer"]} for request in shown]
    assert done == {"out": str(first.folder / "out"), "enrolled": whose}
    assert len((first.folder / "out").read_text().splitlines()) == 3
    for server in fleet:
        server.done("key", "accept", first.folder / "out")
        assert [recipient["signed"] for recipient in recipients(server)] == [True]
    assert "is there already" in first.fails(2, *enrolling_all(first, "--yes"))


@pytest.mark.usefixtures("terminal")
def test_many_are_shown_and_asked_about_once(fleet: list[Server]) -> None:
    first = fleet[0]
    refused = first.run(*enrolling_all(first), typed="n\n")
    assert refused.exit_code == 2
    assert not (first.folder / "out").exists()
    told = first.done(*enrolling_all(first), typed="y\n")
    for number, server in zip((1, 3, 5), fleet, strict=True):
        status = server.json("key", "status")
        whose = f"inventory {status['inventory']}\nsigner    {status['signer']}\n"
        assert f"line {number}\n{whose}" in told.stderr
    assert "the enrolments of 3 servers are in" in told.stdout


def test_all_are_refused_for_one(fleet: list[Server], tmp_path: Path) -> None:
    first, good = fleet[0], (fleet[0].folder / "requests").read_text().split("\n")[0]
    request = json.loads(good)
    older = {name: request[name] for name in ("kind", "inventory", "signer", "recipients")}
    (first.folder / "request").write_text(good)
    swapped(first, inventory="11" * 16, ancestors=[request["inventory"]])
    heir = (first.folder / "request").read_text()
    wrong = [
        (heir, 2, "a request with ancestors is not taken among many"),
        (json.dumps(older), 2, "a request of an older version, without a signature"),
        (json.dumps(request | {"signer": "00" * 32}), 2, "the signature of this"),
        ("{", 2, "this is not a nightvault enrolment request"),
        (good, 2, "a request of the inventory of line 1, again"),
    ]
    for line, number, sentence in wrong:
        (first.folder / "requests").write_text(f"{good}\n{line}\n")
        assert f"line {number}: {sentence}" in first.fails(2, *enrolling_all(first, "--yes"))
    (first.folder / "requests").write_text("\n\n")
    assert "the file has no requests" in first.fails(2, *enrolling_all(first, "--yes"))
    (first.folder / "requests").write_text(good)
    generate(first, "other.key")
    told = first.fails(12, *enrolling_all(first, "--yes"), "--key", first.folder / "other.key")
    assert "line 1: this server does not seal for the recipient" in told
    assert not (first.folder / "out").exists()


def test_an_enrolment_among_many_that_are_for_others(fleet: list[Server], tmp_path: Path) -> None:
    first = fleet[0]
    first.done(*enrolling_all(first, "--yes"))
    lines = (first.folder / "out").read_text().splitlines()
    (tmp_path / "others").write_text("\n".join(lines[1:]))
    assert "all 2 enrolments were made for another" in first.fails(2, "key", "accept", tmp_path / "others")
    (tmp_path / "twice").write_text("\n".join([lines[0], *lines]))
    assert "2 enrolments of this server" in first.fails(2, "key", "accept", tmp_path / "twice")
    (tmp_path / "bad").write_text("\n".join([*lines, "{"]))
    assert "this is not a nightvault enrolment" in first.fails(2, "key", "accept", tmp_path / "bad")


def test_words_that_do_not_fit_together(asking: Server) -> None:
    many = ("--requests", asking.folder / "request")
    assert "name one file" in asking.fails(2, "key", "enroll", "--yes")
    assert "name one file" in asking.fails(2, *enrolling(asking, *many, "--out", "x"))
    assert "belong together" in asking.fails(2, "key", "enroll", *many)
    assert "belong together" in asking.fails(2, *enrolling(asking, "--out", "x"))
    assert "--heir-of is for one request" in asking.fails(
        2, "key", "enroll", *many, "--out", "x", "--heir-of", "0" * 32
    )
