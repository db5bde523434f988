"""`nightvault ca`: files as promised, next steps told, one document with --json."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from backup.cli.keys.authority.records import entry_document
from backup.credentials.identity import IdentityFiles, load_identity
from backup.pki.index import IndexEntry
from backup.pki.revoking import shown_serial
from tests.support.command_line import NOW, run, run_json


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    result = run("ca", "create", "--dir", tmp_path / "ca", "--name", "Backup CA", "--organization", "Example")
    assert result.exit_code == 0, result.output
    return tmp_path / "ca"


def test_create_tells_what_was_written_and_what_comes_next(tmp_path: Path) -> None:
    result = run("ca", "create", "--dir", tmp_path / "ca", "--name", "Backup CA")
    assert result.exit_code == 0
    assert f"certificate  {tmp_path}/ca/ca.pem" in result.stdout
    assert f"key          {tmp_path}/ca/ca.key" in result.stdout
    assert "days left    3650" in result.stdout
    assert "trust anchor" in result.stderr
    assert "ca issue" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("how", ["open", "theirs", "below theirs", "their link"])
def test_a_directory_that_others_can_change_is_refused(ca: Path, tmp_path: Path, how: str) -> None:
    """Whoever may write there puts an authority of her own in its place."""
    place = ca
    if how == "open":
        ca.chmod(0o777)
    if how == "theirs":
        os.chown(ca, 4242, 4242)
    if how == "below theirs":
        (tmp_path / "hers").mkdir()
        place = ca.rename(tmp_path / "hers" / "ca")
        os.chown(tmp_path / "hers", 4242, 4242)
    if how == "their link":
        place = tmp_path / "link"
        place.symlink_to("ca")
        os.lchown(place, 4242, 4242)
    for words in (
        ("create", "--name", "Other"),
        ("issue", "web1", "--out", tmp_path / "out"),
        ("list",),
        ("crl",),
        ("revoke", "web1"),
        ("renew-root",),
    ):
        result = run("ca", *words, "--dir", place)
        assert result.exit_code != 0
        assert f"the authority's directory {place} is not used: " in result.stderr
    assert not (tmp_path / "out").exists()


def test_create_again_is_a_usage_error(ca: Path) -> None:
    result = run("ca", "create", "--dir", ca, "--name", "Backup CA")
    assert result.exit_code == 2
    assert "is there already" in result.stderr


def test_issue_makes_an_identity(ca: Path, tmp_path: Path) -> None:
    words = ("ca", "issue", "web1", "--dir", ca, "--out", tmp_path / "out", "--days", "90")
    document = run_json(*words, "--unit", "Backup", "--dns", "a.example", "--dns", "b.example")
    assert document["files"] == {
        "certificate": f"{tmp_path}/out/web1.pem",
        "key": f"{tmp_path}/out/web1.key",
    }
    assert document["subject"] == "OU=Backup, CN=web1"
    assert document["issuer"] == "O=Example, CN=Backup CA"
    assert document["names"] == ["DNS:a.example", "DNS:b.example"]
    assert document["days_left"] == 90
    assert document["serial"] == str(int(document["serial_hex"], 16))
    identity = load_identity(IdentityFiles(document["files"]["certificate"], document["files"]["key"]))
    assert str(identity.certificate.serial_number) == document["serial"]


def test_a_certificate_that_is_replaced_is_named_with_how_to_revoke_it(ca: Path, tmp_path: Path) -> None:
    words = ("ca", "issue", "web1", "--dir", ca, "--out", tmp_path)
    first = run("--json", *words)
    assert "replaced" not in first.stderr
    serial = json.loads(first.stdout)["serial_hex"]
    said = run(*words).stderr
    assert f"{tmp_path}/web1.pem had serial {serial}, valid until " in said
    (command,) = [line.split() for line in said.splitlines() if "nightvault ca revoke" in line]
    assert run(*command[1:]).stdout.endswith(f"serial {serial}\n")
    csr, out = tmp_path / "web1.csr", tmp_path / "web1.pem"
    run("identity", "csr", "--name", "web1", "--key", tmp_path / "web1.key", "--out", csr)
    assert f"{out} had serial " in run("ca", "sign", csr, "--dir", ca, "--out", out).stderr


def test_issue_names_the_files_as_they_will_be_on_the_server(ca: Path, tmp_path: Path) -> None:
    told = run("ca", "issue", "web1", "--dir", ca, "--out", tmp_path / "out").stderr
    assert 'certificate = "/etc/nightvault/web1.pem"' in told
    assert 'private_key = "/etc/nightvault/web1.key"' in told


def test_a_name_that_aws_refuses_is_told_before_a_file_that_is_there(ca: Path, tmp_path: Path) -> None:
    """Both would have the file `a_b.pem`; another place would not help."""
    words = ("--dir", ca, "--out", tmp_path / "out")
    assert run("ca", "issue", "a b", *words).exit_code == 0
    refused = run("ca", "issue", "a,b", *words)
    assert refused.exit_code == 2
    assert "the name 'a,b' has characters that AWS refuses" in refused.stderr
    assert "use letters, digits, blanks and _ . : = + - @\n" in refused.stderr, "and no slash"


@pytest.mark.parametrize(("key_type", "shown"), [("rsa-2048", "RSA 2048"), ("p-384", "EC secp384r1")])
def test_kinds_of_keys(ca: Path, tmp_path: Path, key_type: str, shown: str) -> None:
    document = run_json("ca", "issue", "web1", "--dir", ca, "--out", tmp_path, "--key-type", key_type)
    assert document["key_type"] == shown


def test_a_certificate_that_ends_with_its_authority_says_so(ca: Path, tmp_path: Path) -> None:
    words = ("ca", "issue", "web1", "--dir", ca, "--out", tmp_path, "--days", "365")
    late = run(*words, now=NOW + timedelta(days=3600))
    assert late.exit_code == 0
    assert "it ends with the authority, after 50 days instead of 365" in late.stderr
    too_late = run(*words, now=NOW + timedelta(days=3651))
    assert too_late.exit_code == 13
    assert "expired on" in too_late.stderr


def test_sign_a_request(ca: Path, tmp_path: Path) -> None:
    key, request, out = tmp_path / "web1.key", tmp_path / "web1.csr", tmp_path / "web1.pem"
    assert run("identity", "csr", "--out", request, "--key", key, "--name", "web1").exit_code == 0
    result = run("ca", "sign", request, "--dir", ca, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"certificate  {out}" in result.stdout
    assert load_identity(IdentityFiles(str(out), str(key))).chain == ()
    missing = run("ca", "sign", tmp_path / "none.csr", "--dir", ca, "--out", out)
    assert missing.exit_code == 2
    assert "cannot read the request" in missing.stderr


def test_no_authority_is_an_identity_error(tmp_path: Path) -> None:
    result = run("ca", "issue", "web1", "--dir", tmp_path, "--out", tmp_path)
    assert result.exit_code == 13
    assert "there is no certificate authority" in result.stderr
    assert "Traceback" not in result.output


def test_a_passphrase_from_a_file(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("correct horse\n")
    ca = tmp_path / "ca"
    made = run("ca", "create", "--dir", ca, "--name", "CA", "--passphrase-file", word)
    assert made.exit_code == 0
    subprocess.run(
        ["openssl", "pkey", "-in", str(ca / "ca.key"), "-passin", f"file:{word}", "-noout"], check=True
    )
    issue = ("ca", "issue", "web1", "--dir", ca, "--out", tmp_path / "out")
    assert run(*issue, "--passphrase-file", word).exit_code == 0
    word.write_text("battery staple\n")
    wrong = run(*issue, "--passphrase-file", word)
    assert wrong.exit_code == 13
    assert "battery" not in wrong.output


def test_a_passphrase_from_the_terminal(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    create = ("ca", "create", "--dir", ca, "--name", "CA", "--passphrase-file", "prompt")
    assert run(*create, typed="correct horse\ncorrect horse\n").exit_code == 0
    issue = ("ca", "issue", "web1", "--dir", ca, "--out", tmp_path / "out")
    right = run(*issue, typed="correct horse\n")  # asked for, since the key is encrypted
    assert right.exit_code == 0
    assert "correct horse" not in right.output
    assert run(*issue, "--passphrase-file", "prompt", typed="wrong\n").exit_code == 13
    assert os.path.exists(tmp_path / "out" / "web1.pem")


def test_a_batch_is_all_or_nothing(ca: Path, tmp_path: Path) -> None:
    hosts, out = tmp_path / "hosts.csv", tmp_path / "out"
    hosts.write_text("web1,Web\nweb/2\n")
    words = ("ca", "issue", "--batch", hosts, "--dir", ca, "--out", out, "--unit", "Backup")
    refused = run(*words)
    assert refused.exit_code == 2
    assert "line 2: the name 'web/2' has a slash" in refused.stderr
    assert not out.exists()
    hosts.write_text("# all of them\nweb1,Web\nweb2,,web2.example\n")
    made = run_json(*words)["certificates"]
    assert [certificate["subject"] for certificate in made] == ["OU=Web, CN=web1", "OU=Backup, CN=web2"]
    assert made[1]["names"] == ["DNS:web2.example"]
    for certificate in made:
        load_identity(IdentityFiles(certificate["files"]["certificate"], certificate["files"]["key"]))
    assert "OU=Backup, CN=web2" in run(*words).stdout
    for wrong in (("web1", "--batch", hosts), (), ("--batch", hosts, "--dns", "a.example")):
        assert run("ca", "issue", *wrong, "--dir", ca, "--out", out).exit_code == 2


def test_list_revoke_and_crl(ca: Path, tmp_path: Path) -> None:
    assert "no certificate was issued" in run("ca", "list", "--dir", ca).stdout
    for name, days in (("web1", "30"), ("web2", "90")):
        run("ca", "issue", name, "--dir", ca, "--out", tmp_path / "out", "--days", days)
    listed = run_json("ca", "list", "--dir", ca)
    assert [(certificate["name"], certificate["state"]) for certificate in listed["certificates"]] == [
        ("web1", "valid"),
        ("web2", "valid"),
    ]
    assert listed["crl"] == {"number": 0, "signed_at": None, "valid_until": None}
    serial = listed["certificates"][0]["serial_hex"]
    assert serial in run("ca", "list", "--dir", ca).stdout
    revoked = run("ca", "revoke", serial[:8], "--dir", ca, "--reason", "key-compromise")
    assert revoked.exit_code == 0
    assert serial in revoked.stdout
    assert "AWS does not know it yet" in revoked.stderr
    crl = run_json("ca", "crl", "--dir", ca)
    assert crl["lists"] == [{"root": 1, "file": f"{ca}/crl.pem", "certificates": 1}]
    assert crl["number"] == 1
    shown = run("ca", "list", "--dir", ca)
    assert "revoked (key-compromise)" in shown.stdout
    assert "the newest revocation list (number 1) ends on 2026-12-24" in shown.stderr
    late = NOW + timedelta(days=60)
    assert "web1" in run("ca", "list", "--dir", ca, now=late).stdout  # revoked ones stay until --all is said
    assert "was never" not in shown.output
    assert run("ca", "revoke", "web1", "--dir", ca).exit_code == 2


def test_a_request_signed_through_pipes(ca: Path, tmp_path: Path) -> None:
    """As an ssh key of the server is bound to it: the request comes in, the certificate goes out."""
    run("ca", "issue", "web1", "--dir", ca, "--out", tmp_path)
    csr, key = tmp_path / "r.csr", tmp_path / "new.key"
    run("identity", "csr", "--out", csr, "--key", key, "--name", "web1")
    words = ("ca", "sign", "-", "--dir", ca, "--out", "-", "--days", "7", "--for")
    signed = run(*words, "web1", typed=csr.read_text())
    assert signed.exit_code == 0
    assert signed.stderr == ""
    (tmp_path / "new.pem").write_text(signed.stdout)
    load_identity(IdentityFiles(str(tmp_path / "new.pem"), str(key)))
    assert run(*words, "web2", typed=csr.read_text()).exit_code == 13


def test_a_new_root_says_what_comes_next(ca: Path, tmp_path: Path) -> None:
    run("ca", "issue", "web1", "--dir", ca, "--out", tmp_path / "out", "--days", "9")
    words = ("ca", "renew-root", "--dir", ca)
    added = run(*words)
    assert "O=Example, CN=Backup CA 2" in added.stdout
    assert "put both of" in added.stderr
    switched = run(*words, "--switch")
    assert "web1 (9 d)" in switched.stderr
    assert run_json(*words)["stage"] == "switched"
    early = run(*words, "--finish")
    assert early.exit_code == 2
    assert "in use: web1" in early.stderr
    done = run_json(*words, "--finish", now=NOW + timedelta(days=10))
    assert done["stage"] == "settled"
    assert [root["number"] for root in done["roots"]] == [2]
    assert run(*words, "--finish", "--switch").exit_code == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ca", "create", "--dir", "new", "--name", "CA", "--days", "999999999"], 2, "1<=x<=36500"),
        (["ca", "issue", "web1", "--dir", "ca", "--out", "o", "--days", "999999999"], 2, "1<=x<=36500"),
        (["ca", "sign", "r", "--dir", "ca", "--out", "o", "--days", "999999999"], 2, "1<=x<=36500"),
        (["ca", "crl", "--dir", "ca", "--days", "999999999"], 2, "1<=x<=36500"),
        (["ca", "renew-root", "--dir", "ca", "--days", "999999999"], 2, "1<=x<=36500"),
        (["ca", "list", "--dir", "nowhere"], 13, "there is no certificate authority in nowhere"),
        (["ca", "revoke", "web1", "--dir", "nowhere"], 13, "there is no certificate authority in nowhere"),
        (
            ["ca", "create", "--dir", "new", "--name", "CA", "--passphrase-file", "nowhere"],
            13,
            "check the path in --passphrase-file",
        ),
        (["ca", "sign", "words", "--dir", "ca", "--out", "o"], 2, "words is no certificate signing request"),
        (["identity", "csr", "--out", "r", "--key", "k", "--name", ""], 2, "must have 1 to 64 bytes"),
    ],
)
def test_each_error_says_on_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("ca", "create", "--dir", "ca", "--name", "CA").exit_code == 0
    Path("words").write_text("words")
    result = run(*words)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "unexpected" not in result.stderr
    assert not Path("new").exists()
    assert not Path("k").exists()


def test_a_passphrase_without_a_terminal(tmp_path: Path) -> None:
    """Nobody is there to answer, which is no interruption."""
    words = ("ca", "create", "--dir", tmp_path / "ca", "--name", "CA", "--passphrase-file", "prompt")
    result = run(*words)
    assert result.exit_code == 2
    assert "there is no terminal to type the new passphrase for the CA key" in result.stderr


def test_a_listed_serial_has_an_even_number_of_digits_as_elsewhere() -> None:
    entry = IndexEntry(
        serial="9b72858",
        name="a",
        subject="CN=a",
        root="00",
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
    )
    assert entry_document(entry, NOW)["serial_hex"] == "09b72858"
    assert shown_serial(entry) == "09b72858"
