"""A config of which one vault is not set up in AWS yet: it is named, and everything else works."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.app.aws_setup.wanted import subject_of
from backup.app.base.clock import SystemClock
from backup.config import load_config
from backup.errors import IdentityError
from tests.support.emulated import REGION
from tests.support.real_daemons import running
from tests.support.servers import Server, directory_server
from tests.support.trees import assert_same_tree

ICE = "vault ice is not set up in AWS yet: the config has no bucket and no role_arn of it"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """One with a directory and a bucket that has neither name nor roles; job main is for the directory."""
    made = directory_server(tmp_path)
    made.done("ca", "create", "--dir", tmp_path / "ca", "--name", "Test CA", "--organization", "Test")
    made.done(
        *("ca", "issue", "web1", "--dir", tmp_path / "ca", "--out", tmp_path / "identity"),
        *("--organization", "Test", "--unit", "Servers"),
    )
    text = made.config.read_text()
    identity = (
        f'[identity]\ncertificate = "{tmp_path}/identity/web1.pem"\n'
        f'private_key = "{tmp_path}/identity/web1.key"\n\n'
    )
    more = (
        f'[[vault]]\nname = "ice"\nkind = "s3"\nregion = "{REGION}"\n\n'
        f'[[job]]\nname = "cold"\nvault = "ice"\nsources = ["{made.source}"]\n'
    )
    made.config.write_text(identity + text + more)
    return made


def test_init_makes_the_others_and_says_so(server: Server) -> None:
    found = server.run("--json", "init", "--non-interactive", "--key-file", server.key_file)
    assert found.exit_code == 0, found.output
    assert '"vaults":["cold"]' in found.stdout
    assert f"warning: {ICE}; give `nightvault init` again once it is" in found.stderr
    assert ICE not in server.done("init", "--no-vaults", "--non-interactive").stderr


def test_of_all_jobs_the_others_are_backed_up(server: Server, tmp_path: Path) -> None:
    server.init()
    first, second = server.json("backup", exit_code=2)
    assert first["outcome"] == "done"
    assert second == {"job": "cold", "outcome": "failed", "error": second["error"]}
    said = server.fails(2, "backup")
    assert ICE in said
    assert "nightvault setup aws --plan" in said
    assert server.done("backup", "main").exit_code == 0
    assert_same_tree(server.restore(tmp_path / "out", snapshot="latest"), server.source)


@pytest.mark.parametrize("words", [("prune",), ("compact",), ("check",)], ids=" ".join)
def test_of_all_vaults_the_others_are_worked_in(server: Server, words: tuple[str, ...]) -> None:
    server.init()
    server.done("backup", "main")
    first, second = server.json(*words, exit_code=2)
    assert (first["vault"], first.get("error")) == ("cold", None)
    assert (second["vault"], second["error"]["kind"]) == ("ice", "config")
    assert ICE in second["error"]["message"]
    server.done(*words, "--vault", "cold")


def test_status_doctor_and_config_check_name_it(server: Server) -> None:
    server.init()
    server.done("backup", "main")
    (concern,) = [
        concern for concern in server.json("status", exit_code=1)["concerns"] if "ice" in concern["text"]
    ]
    assert (concern["level"], concern["topic"], concern["text"]) == ("warning", "vault", ICE)
    assert concern["command"] == "nightvault setup aws --plan"
    checked = server.done("config", "check")
    assert ICE in checked.stderr
    assert "a bucket without a name yet" in checked.stdout
    told = " ".join(server.run("doctor").output.split())
    assert told.count("vault ice is not set up") == 1
    assert "vault ice: vault ice" not in told


def test_a_certificate_that_is_elsewhere_is_told_by_its_name(server: Server) -> None:
    certificate = server.folder.parent / server.folder.name / "identity" / "web1.pem"
    certificate.unlink()
    with pytest.raises(IdentityError) as caught:
        subject_of(load_config(str(server.config)))
    assert caught.value.advice.endswith("give --subject CN")


def test_policies_for_a_bucket_without_a_name(server: Server) -> None:
    made = server.done("aws", "policy", "--vault", "ice")
    assert "arn:aws:s3:::BUCKET-NAME/data/*" in made.stdout
    assert "to be filled in by hand: ACCOUNT-ID, TRUST-ANCHOR-ID, BUCKET-NAME" in made.stderr


def test_a_vault_without_a_role_is_not_asked_by_other_keys(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is one whose bucket has a name already."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYS0000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    text = server.config.read_text()
    server.config.write_text(text.replace('name = "ice"', 'name = "ice"\nbucket = "some-bucket"'))
    server.init()
    said = server.fails(2, "backup", "cold")
    assert "vault ice is not set up in AWS yet: the config has no role_arn of it" in said


def test_where_there_is_no_other_vault_init_makes_nothing(server: Server) -> None:
    head, _, rest = server.config.read_text().partition('[[vault]]\nname = "cold"')
    server.config.write_text(head + rest[rest.index('[[vault]]\nname = "ice"') :])
    assert ICE in server.fails(2, "init", "--non-interactive", "--key-file", server.key_file)
    assert not server.key_file.exists()
    assert not (server.state / "inventory.sqlite").exists()


def test_the_daemon_does_the_rest_and_says_so(server: Server) -> None:
    text = server.config.read_text()
    server.config.write_text(text.replace('vault = "ice"', 'vault = "ice"\nschedule = "daily at 02:30"'))
    server.clock = SystemClock()
    server.init()
    with running(server.config) as daemon:
        daemon.wait_for(f"warning: {ICE}; `nightvault setup aws --plan`")
        daemon.wait_for("started with")  # it listens from then on
        server.done("run", "cold")
        daemon.wait_for(ICE, 2)
        daemon.wait_for("job main: snapshot")
    assert [snapshot["job"] for snapshot in server.json("snapshots")] == ["main"]
