"""The doctor: a healthy server has no finding; each finding appears with its cause, and goes with it."""

from __future__ import annotations

import ast
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from string import Formatter

import pytest

from backup.app.beginning.sheet import sheet
from backup.app.doctor import examine, jobs, table
from backup.app.doctor import vaults as vault_checks
from backup.app.doctor.checks import ASKING, LOCAL
from backup.app.doctor.finding import Finding, mend
from backup.app.doctor.table import WHY
from backup.app.doctor.vaults import failure_of
from backup.app.status.parts import Level, Topic
from backup.config import load_config
from backup.errors import DeniedError
from backup.format.keys import RecoveryKey
from backup.inventory.store.database import HEAD
from backup.kinds import KINDS, RunKind
from backup.model import VaultState
from tests.support.doubles import ManualClock
from tests.support.healthy_servers import HealthyServer, healthy_server
from tests.support.scratch_server import Answer, ScratchServer
from tests.support.servers import Cloud, Server, replace, running_cloud


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HealthyServer:
    return healthy_server(tmp_path, monkeypatch)


def test_a_healthy_server_has_no_finding(healthy: HealthyServer) -> None:
    assert healthy.findings() == []
    done = healthy.server.run("doctor")
    assert done.exit_code == 0
    assert done.stdout.startswith("nothing was found; checked: ")
    document = healthy.server.json("doctor", "--fix")
    assert document["findings"] == document["fixed"] == document["requests"] == []
    assert document["looked_at"] == [*LOCAL, *ASKING]
    disk, key = document["notes"]
    assert disk.startswith(
        f"vault cold lies on one file system with the source {healthy.server.source} and the state"
    )
    assert key == "the recovery key was not tried: give it with --key FILE, from a stick"


def test_a_vault_on_a_disk_of_its_own_is_no_note(
    healthy: HealthyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told by the device that it lies on."""
    elsewhere = str(healthy.server.folder / "vault")
    monkeypatch.setattr(jobs, "device_of", lambda path: 2 if path == elsewhere else 1)
    assert not [note for note in healthy.examined().notes if "file system" in note]


Change = Callable[[Server], None]


def config(old: str, new: str) -> tuple[Change, Change]:
    """A change of the config, and back."""
    return lambda server: replace(server, old, new), lambda server: replace(server, new, old)


def file(name: str, content: str = "x") -> tuple[Change, Change]:
    """A file below the server's folder, and its end."""

    def write(server: Server) -> None:
        path = server.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return write, lambda server: (server.folder / name).unlink()


def mode(name: str, wrong: int, right: int) -> tuple[Change, Change]:
    """A file's mode, and back."""
    return (
        lambda server: os.chmod(server.folder / name, wrong),
        lambda server: os.chmod(server.folder / name, right),
    )


def moved(name: str) -> tuple[Change, Change]:
    """Something moved away, and back."""
    return (
        lambda server: os.rename(server.folder / name, server.folder.parent / "away"),
        lambda server: os.rename(server.folder.parent / "away", server.folder / name),
    )


def later(server: Server) -> None:
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(timedelta(days=200))


def earlier(server: Server) -> None:
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(timedelta(days=-200))


def schema(version: str) -> Change:
    """The inventory says that it is of this version."""

    def write(server: Server) -> None:
        with closing(sqlite3.connect(server.state / "inventory.sqlite")) as database, database:
            database.execute("UPDATE alembic_version SET version_num = ?", (version,))

    return write


def without_jobs(server: Server) -> None:
    text = server.config.read_text()
    (server.folder / "whole").write_text(text)
    server.config.write_text(text[: text.index("[[job]]")])


def with_jobs(server: Server) -> None:
    (server.folder / "whole").replace(server.config)


NEVER = '\n[[job]]\nname = "new"\nvault = "cold"\nsources = ["/etc"]\nretention = { keep_daily = 7 }\n'
KEY = "NVK1-ABCD-EFGH-JKLM"
SHEET = sheet(RecoveryKey.from_seed(bytes(32)), host="web1", vault="AWS", day=date(2026, 12, 1))
TABLE: dict[str, tuple[str, tuple[Change, Change]]] = {
    "no policy": ("retention", config("[job.retention]\nkeep_daily = 7\n", "# no policy\n")),
    "no second place": ("recovery-lines", config("recovery_file = ", "# recovery_file = ")),
    "a job that never ran": ("never-run", config("keep_daily = 7\n", f"keep_daily = 7\n{NEVER}")),
    "a source that is gone": ("source", config('/source"]', '/source", "/no/such/source"]')),
    "a source that is a symlink": ("source", config('/source"]', '/source", "/proc/self"]')),
    "a key beside the config": ("recovery-key", file("keep.txt", f"my key: {KEY}-NPQR\n")),
    "a key in the state": ("recovery-key", file("state/old.key", KEY.lower())),
    "a key at home": ("recovery-key", file("../home/notes", f"\n\n{KEY}\n")),
    "a sheet at home": ("recovery-key", file("../home/a-sheet.txt", SHEET)),
    "a key as typed": ("recovery-key", file("typed", "NVK1" + " abcd" * 14)),
    "state for all": ("mode", mode("state", 0o755, 0o700)),
    "signer for all": ("mode", mode("state/keys/signer", 0o644, 0o600)),
    "old archives": ("never-read", (later, earlier)),
    "an old check": ("unchecked", (later, earlier)),
    "no drill": ("drill", (later, earlier)),
    "PostgreSQL": ("database", file("source/pg/PG_VERSION")),
    "MySQL": ("database", file("source/mysql/ibdata1")),
    "MongoDB": ("database", file("source/deep/mongo/WiredTiger")),
    "precious": ("left-out", config("sources = [", 'exclude = [".ssh"]\nsources = [')),
    "no vault": ("vault", moved("vault")),
    "no inventory": ("inventory", moved("state/inventory.sqlite")),
    "not enrolled": ("enrolment", moved("state/keys/enrolments")),
    "no recipient": ("enrolment", moved("state/keys/recipients")),
    "keys gone": ("keys", moved("state/keys")),
    "a newer schema": ("schema", (schema("9999"), schema(HEAD))),
    "no job": ("jobs", (without_jobs, with_jobs)),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_finding_comes_with_its_cause_and_goes_with_it(healthy: HealthyServer, name: str) -> None:
    check, (harm, mended) = TABLE[name]
    if check == "left-out":
        (healthy.server.source / ".ssh").mkdir()
    assert healthy.found() == set()
    harm(healthy.server)
    findings = [finding for finding in healthy.findings() if finding.check == check]
    assert findings, name
    assert "check" not in healthy.found(), "no other check fails for that"
    for finding in findings:
        assert finding.what
        assert finding.why
        assert finding.command
    mended(healthy.server)
    assert healthy.found() == set()


def test_what_is_said_without_recipient_and_without_job(healthy: HealthyServer) -> None:
    (healthy.server.state / "keys" / "recipients").unlink()
    without_jobs(healthy.server)
    told = {finding.what: finding.command for finding in healthy.findings()}
    assert told == {
        "there is no recipient": "nightvault key generate --out FILE elsewhere, and name its recipient in "
        "[encryption] here",
        "the config has no job": f"add [[job]] to {healthy.server.config}",
    }


def test_keys_that_are_gone_are_rebuilt_and_not_made_anew(healthy: HealthyServer) -> None:
    shutil.rmtree(healthy.server.state / "keys")
    (told,) = [finding.command for finding in healthy.findings() if finding.check == "keys"]
    assert "nightvault rebuild --set-aside --key FILE" in told
    assert not any("key generate" in finding.command for finding in healthy.findings())


def test_the_last_check_counts_and_the_config_may_say_how_long(healthy: HealthyServer) -> None:
    later(healthy.server)
    assert "unchecked" in healthy.found()
    healthy.server.done("check", "--vault", "cold")
    assert "unchecked" not in healthy.found()
    later(healthy.server)
    (told,) = [finding.what for finding in healthy.findings() if finding.check == "unchecked"]
    assert told.startswith("vault cold was last checked on ")
    with healthy.server.config.open("a") as config_file:
        config_file.write('\n[monitoring]\ncheck_age = "1y"\n')
    assert not healthy.found() & {"unchecked", "check"}


def test_a_damaged_page_of_the_inventory_is_found(healthy: HealthyServer) -> None:
    path = healthy.server.state / "inventory.sqlite"
    whole = path.read_bytes()
    found = set()
    for page in range(8, len(whole) // 4096, 3):
        path.write_bytes(whole[: page * 4096] + os.urandom(4096) + whole[(page + 1) * 4096 :])
        found |= {finding.what for finding in healthy.findings() if finding.check in {"inventory", "check"}}
    assert any("is damaged: " in text for text in found)
    path.write_bytes(whole)
    assert healthy.findings() == []


def test_sqlite_in_wal_mode_and_databases_that_are_dumped_or_left_out(healthy: HealthyServer) -> None:
    place = healthy.server.source / "app"
    place.mkdir()
    for name in ("app.db", "app.db-wal"):
        (place / name).write_text("x")
    assert "database" in healthy.found()
    replace(healthy.server, "sources = [", 'exclude = ["app"]\nsources = [')
    assert healthy.found() == set()
    replace(healthy.server, 'exclude = ["app"]\n', "")
    with healthy.server.config.open("a") as config_file:
        config_file.write('[[job.command]]\nname = "app.sql"\nrun = ["sqlite3", "app.db", ".dump"]\n')
    assert healthy.found() == set()


def test_what_cannot_hurt_is_mended_and_nothing_else(healthy: HealthyServer) -> None:
    os.chmod(healthy.server.state, 0o755)
    os.chmod(healthy.server.state / "keys" / "signer", 0o644)
    replace(healthy.server, "[job.retention]\nkeep_daily = 7\n", "")
    shown = healthy.server.run("doctor")
    assert shown.exit_code == 1
    assert "chmod 700" in shown.stdout
    assert "can be repaired by `nightvault doctor --fix`" in shown.stderr
    document = healthy.server.json("doctor", "--fix", exit_code=1)
    assert len(document["fixed"]) == 2
    assert [finding["check"] for finding in document["findings"]] == ["retention"]
    assert [finding["check"] for finding in healthy.server.json("doctor", exit_code=1)["findings"]] == [
        "retention"
    ]


def test_what_cannot_be_mended_remains() -> None:
    def fails() -> str:
        raise PermissionError

    finding = Finding("mode", Level.CRITICAL, "what", "why", "chmod", fails)
    assert mend([finding]).left == [finding]


def test_every_row_of_the_table_is_used_and_gets_all_of_its_names() -> None:
    """A name that a text needs and a check does not give would be a traceback, on a bad day alone."""
    rows = {name: row for name, row in vars(table).items() if isinstance(row, table.FindingKind)}
    needs = {
        name: {
            field
            for text in (row.what, row.why, row.do)
            for _, field, _, _ in Formatter().parse(text)
            if field is not None
        }
        for name, row in rows.items()
    }
    through = {
        "_of_others": {"hazard", "path", "command", "who"},
        "_open_to_others": {"path", "found", "mode"},
    }
    used: set[str] = set()
    for path in Path(str(table.__file__)).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            given = {keyword.arg for keyword in call.keywords} - {"advice", "fix"}
            helper = getattr(call.func, "id", "")
            parts = [getattr(call.func, "value", None)] if helper not in through else call.args
            for source in (ast.unparse(part) for part in parts if part is not None):
                if source.startswith("table.") and (name := source.removeprefix("table.")) in rows:
                    assert needs[name] <= through.get(helper, given), (path.name, name)
                    used.add(name)
    assert used == rows.keys()
    typed: dict[str, object] = {
        "since": datetime.now(UTC),
        "last": datetime.now(UTC),
        "found": 0o644,
        "mode": 0o600,
    }
    for name, row in rows.items():
        shown = row.finding(advice=None, fix=None, **(dict.fromkeys(needs[name], "x") | typed))
        assert "{" not in f"{shown.what}{shown.why}{shown.command}", name


def test_every_concern_of_the_status_is_a_finding_and_has_a_reason(healthy: HealthyServer) -> None:
    assert set(WHY) == set(Topic)
    assert set(KINDS) == set(RunKind)
    replace(healthy.server, "[job.retention]", 'schedule = "every 6h"\n[job.retention]')
    assert "daemon" in healthy.found()


# Vaults in AWS.


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def bucket(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    server = cloud.server(tmp_path / "server", vault=f"bucket-{os.urandom(4).hex()}", kind="s3")
    server.init()
    shutil.move(server.key_file, tmp_path / "recovery.key")
    return server


VAULTS = {"credentials", "vault", "clock", "bucket", "role", "work", "identity", "vault-lock", "check"}


def asked(server: Server) -> tuple[set[str], list[str]]:
    """What was found of vaults, and the requests."""
    report = examine(load_config(str(server.config)), server.clock, seconds=5)
    return {finding.check for finding in report.findings} & VAULTS, list(report.requests)


def test_a_bucket_is_asked_a_handful_of_times(bucket: Server, cloud: Cloud) -> None:
    cloud.admin("s3").put_bucket_lifecycle_configuration(
        Bucket=load_config(str(bucket.config)).vaults[0].bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "incomplete",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                }
            ]
        },
    )
    found, requests = asked(bucket)
    assert found == set()
    assert len(requests) == 10  # three of them sessions; one stands for two looks, another for an upload
    assert sum(request.startswith("CreateSession for ") for request in requests) == 3
    assert bucket.json("doctor", "--offline", exit_code=1)["requests"] == []
    assert "requests that were sent" not in bucket.run("doctor").output
    assert "requests that were sent: CreateSession" in bucket.run("-v", "doctor").output


def test_denials_and_settings_of_a_bucket(bucket: Server) -> None:
    assert asked(bucket)[0] == {"bucket"}  # no rule ends incomplete uploads
    text = bucket.config.read_text()
    replace(bucket, 'restore_role_arn = "', 'restore_role_arn = "arn:aws:iam::111122223333:role/None"\n#')
    assert "credentials" in asked(bucket)[0]
    bucket.config.write_text(text)
    backup_role = text.split('\nrole_arn = "')[1].split('"')[0]
    prune_role = text.split('prune_role_arn = "')[1].split('"')[0]
    replace(bucket, f'prune_role_arn = "{prune_role}"', f'prune_role_arn = "{backup_role}"')
    assert "role" in asked(bucket)[0]
    swapped = text.replace(backup_role, "X").replace(prune_role, backup_role).replace("X", prune_role)
    bucket.config.write_text(swapped)  # what deletes is used for backups
    (told,) = [
        finding
        for finding in examine(load_config(str(bucket.config)), bucket.clock).findings
        if finding.check == "role"
    ]
    assert "may delete (DeleteObjectVersion and DeleteObject)" in told.what
    bucket.config.write_text(text)
    name = text.split('bucket = "')[1].split('"')[0]
    replace(bucket, f'bucket = "{name}"', 'bucket = "no-such-bucket-at-all"')
    assert "vault" in asked(bucket)[0]
    bucket.config.write_text(text)
    assert asked(bucket)[0] == {"bucket"}


def test_a_glacier_vault_whose_backups_may_delete(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    server = cloud.server(tmp_path / "server", vault="night")
    server.init()
    assert asked(server)[0] == set()
    text = server.config.read_text()
    backup_role = text.split('\nrole_arn = "')[1].split('"')[0]
    prune_role = text.split('prune_role_arn = "')[1].split('"')[0]
    server.config.write_text(
        text.replace(backup_role, "X").replace(prune_role, backup_role).replace("X", prune_role)
    )
    assert "role" in asked(server)[0]


def test_a_clock_that_is_off_is_told_by_the_vaults_own(
    bucket: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhen:
        name = "cold"

        def identities(self, _: object) -> object:
            raise DeniedError("no")

        def state(self) -> VaultState:
            return VaultState(exists=True, location="x", at=datetime.now(UTC) - timedelta(hours=5))

    monkeypatch.setattr(vault_checks, "make_vault", lambda *_: Elsewhen())
    assert "clock" in asked(bucket)[0]
    report = examine(load_config(str(bucket.config)), bucket.clock, seconds=5)
    (found,) = [finding for finding in report.findings if finding.check == "clock"]
    assert "is nightvault's emulator, its clock was stepped" in found.why


def test_it_never_hangs(bucket: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS takes the connection, and says nothing."""
    server = ScratchServer(lambda _: Answer(delay=8, drop=True))
    with server.running():
        text = bucket.config.read_text()
        old = text.split('endpoint = "')[1].split('"')[0]
        replace(bucket, f'endpoint = "{old}"', f'endpoint = "{server.url}"')
        began = time.monotonic()
        report = examine(load_config(str(bucket.config)), bucket.clock, seconds=0.5)
        assert time.monotonic() - began < 10
    told = [finding.what for finding in report.findings if finding.check in VAULTS]
    assert sum("no answer within 0.5 s" in line for line in told) >= 4


def test_a_failure_of_ours_is_given_back_and_any_other_is_raised() -> None:
    def denied() -> None:
        raise DeniedError("no")

    def broken() -> None:
        raise ZeroDivisionError

    assert failure_of(5, "x", lambda: None) is None
    assert isinstance(failure_of(5, "x", denied), DeniedError)
    with pytest.raises(ZeroDivisionError):
        failure_of(5, "x", broken)
