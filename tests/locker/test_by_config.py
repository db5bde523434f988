"""`nightvault object-lock extend`, and the task: by a config, in a bucket of the emulator."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.opened import opened
from backup.app.status.metrics import metrics_text
from backup.app.status.status import read_status
from backup.app.tasks.tasks import tasks_of
from backup.config import load_config
from backup.daemon.task_run import TaskRun
from backup.daemon.work import TaskWork
from backup.inventory.content.locks import lock_ends
from backup.kinds import Outcome, TaskKind
from backup.model import VaultName
from backup.web.pages.overview import overview
from tests.support.daemons import Figures
from tests.support.emulated import RunningEmulator
from tests.support.locked_servers import LOCK, bucket_of, bucket_server, destroyed, give_lock
from tests.support.s3_clients import client
from tests.support.servers import Server
from tests.support.trees import assert_same_tree, snapshot_of


@pytest.fixture
def server(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a vault that locks, after a backup."""
    return bucket_server(tmp_path, emulator, monkeypatch)


def test_the_command(server: Server, emulator: RunningEmulator) -> None:
    """A plan records nothing; then all ends are known; what an attacker has done is seen through."""
    s3 = client(emulator.s3_url)
    plan = server.json("object-lock", "extend", "--dry-run")
    assert (plan["plan"], plan["due"], plan["extended"], plan["missing"]) == (True, 0, 0, [])
    there = s3.list_object_versions(Bucket=bucket_of(server))["Versions"]
    assert plan["objects"] == plan["looked"] == len(there)
    assert not any(run["kind"] == "extend" for run in server.json("runs"))
    for line in there:
        s3.delete_object(Bucket=bucket_of(server), Key=line["Key"])
    done = server.json("object-lock", "extend", "--vault", "cold", exit_code=3)
    assert (len(done["covered"]), done["covered_count"]) == (len(there), len(there))
    (text,) = [concern["text"] for concern in concerns(server)]
    assert "renewal of locks" in text
    assert text.endswith(": somebody put delete markers, or something else, over 3 objects")
    assert (done["plan"], done["objects"], done["due"]) == (False, len(there), 0)
    assert server.json("runs")[0]["kind"] == "extend"
    with closing(opened(load_config(str(server.config)))) as inventory, inventory.reading() as tx:
        assert len(lock_ends(tx, VaultName("cold"))) == len(there)
    told = server.run("object-lock", "extend")
    assert (told.exit_code, "0 of" in told.stdout) == (3, True)
    assert "somebody put delete markers, or something else, over 3 objects of vault cold" in told.stderr
    restored = server.restore(server.folder / "out")
    assert (restored / "a.txt").read_text() == "alpha\n"


def test_the_task_and_what_it_leaves_when_it_fails(server: Server, emulator: RunningEmulator) -> None:
    """What was not locked is locked; what is denied is a run that failed, until it works."""
    s3, name = client(emulator.s3_url), bucket_of(server)
    kept = s3.list_object_versions(Bucket=name)["Versions"][0]
    where = {"Bucket": name, "Key": kept["Key"], "VersionId": kept["VersionId"]}
    s3.put_object_retention(**where, Retention={}, BypassGovernanceRetention=True)
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObjectRetention"}
    policy = {"Statement": [{**statement, "Resource": f"arn:aws:s3:::{name}/*"}]}
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    server.fails(14, "object-lock", "extend")
    (failed, *_) = server.json("runs")
    assert (failed["kind"], failed["outcome"]) == ("extend", "failed")
    assert any("renewal of locks" in concern["text"] for concern in concerns(server))
    s3.delete_bucket_policy(Bucket=name)
    config = load_config(str(server.config))
    (task,) = [task for task in tasks_of(config) if task.kind is TaskKind.EXTEND]
    done = TaskWork(config, server.clock)(TaskRun(task, server.clock.now(), Figures()))
    assert done.report is not None
    assert done.report.outcome is Outcome.DONE
    assert s3.get_object_retention(**where)["Retention"]["Mode"] == "GOVERNANCE"
    assert concerns(server) == []


def concerns(server: Server) -> list[dict[str, Any]]:
    """What status has to say of runs."""
    told = server.run("--json", "status")
    return [concern for concern in json.loads(told.stdout)["concerns"] if concern["topic"] == "run"]


def test_a_vault_that_locks_nothing(server: Server) -> None:
    text = server.config.read_text().replace('lock = "governance"\nextend = "daily"\n', "")
    server.config.write_text(text)
    assert "vault cold locks nothing" in server.fails(2, "object-lock", "extend")


def test_the_date_is_told(server: Server) -> None:
    """In status, its JSON, metrics; before it is known, and once it is too near, as a concern."""

    def told() -> tuple[list[str], Any]:
        document = json.loads(server.run("--json", "status").stdout)
        texts = [each["text"] for each in document["concerns"] if each["topic"] == "protection"]
        return texts, document["jobs"][0]["locks"]

    assert told() == (["job main: nobody knows until when it restores whatever an intruder does"], None)
    report = server.json("object-lock", "extend")
    (date,) = report["dates"]
    texts, locks = told()
    assert texts == []
    assert (locks["nights"], locks["until"][:10]) == (1, report["ends"][:10])
    assert (date["job"], date["until"]) == ("main", report["ends"])
    screen = " ".join(server.run("status").stdout.split())
    assert f"its night restores until {date['until'][:10]}; to be renewed by" in screen
    text = metrics_text(read_status(load_config(str(server.config)), server.clock.now()))
    gauge = next(line for line in text.splitlines() if line.startswith("nightvault_locked_until"))
    assert float(gauge.rsplit(" ", 1)[1]) == datetime.fromisoformat(date["until"]).timestamp()
    config = load_config(str(server.config))
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        (shown,) = overview(tx, config, server.clock.now(), None).locks
    assert (shown.job, shown.until) == ("main", datetime.fromisoformat(date["until"]))
    text = server.config.read_text()
    server.config.write_text(text.replace('"governance"', '"governance"\nlock_for = "200d"'))
    (text,) = told()[0]
    assert text.endswith("which is less than 200 days")


def test_locks_that_end_before_anybody_looks(server: Server) -> None:
    """By the schedules of renewals and checks, whichever comes more often."""
    late = "an attack may be noticed after its locks have ended"
    assert late not in server.run("config", "check").output
    text, short = server.config.read_text(), 'lock_for = "5d"\nlock_step = "1d"\nextend = "weekly"\n'
    server.config.write_text(text.replace('extend = "daily"\n', short))
    told = " ".join(server.run("config", "check").output.split())
    assert f"locked for 5 days, but `extend` and `check` may look at them only each 7 days: {late}" in told
    findings = json.loads(server.run("--json", "doctor").stdout)["findings"]
    assert [finding["check"] for finding in findings if late in finding["what"]] == ["bucket"]
    server.config.write_text(text.replace('extend = "daily"\n', short + 'check = "daily"\n'))
    assert late not in server.run("config", "check").output


def test_a_rule_that_deletes_is_named_by_the_next_renewal(server: Server, emulator: RunningEmulator) -> None:
    """It was switched on beneath a running program: locks and restores hold; once it is gone all is well."""
    s3, name = client(emulator.s3_url), bucket_of(server)
    old = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [old]})
    server.backup()
    done = server.json("object-lock", "extend", exit_code=3)
    assert [text.split(":")[0] for text in done["rules"]] == [
        f"lifecycle rule old deletes what lies in {kind}/" for kind in ("meta", "data")
    ]
    assert done["missing"] == []
    told = " ".join(server.run("object-lock", "extend").output.split())
    assert "bucket of vault cold: lifecycle rule old deletes what lies in data/" in told
    (text,) = [concern["text"] for concern in concerns(server)]
    assert "renewal of locks" in text
    assert "lifecycle rule old deletes what lies in meta/" in text
    findings = json.loads(server.run("--json", "doctor").stdout)["findings"]
    assert any("rule old deletes" in finding["what"] for finding in findings)
    assert (server.restore(server.folder / "out") / "a.txt").read_text() == "alpha\n"
    s3.delete_bucket_lifecycle(Bucket=name)
    assert server.json("object-lock", "extend")["rules"] == []
    assert concerns(server) == []


def test_locks_switched_on_beneath_a_vault_that_locks_nothing(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor names them; backups, checks and restores go on; nothing is lost."""
    server = bucket_server(tmp_path, emulator, monkeypatch, lock="")
    s3, name = client(emulator.s3_url), bucket_of(server)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 90}}
    s3.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    (server.source / "new.txt").write_text("since\n")
    assert server.backup()["outcome"] == "done"
    server.done("check")
    findings = json.loads(server.run("--json", "doctor").stdout)["findings"]
    assert any("locks what is stored for 90 days (COMPLIANCE)" in finding["what"] for finding in findings)
    restored = server.restore(server.folder / "out")
    assert [(restored / each).read_text() for each in ("a.txt", "new.txt")] == ["alpha\n", "since\n"]


def test_another_machine_renews_in_place_of_the_server(
    server: Server, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """With the vault, the key and nothing else; it says what it found, and leaves no state of the server."""
    folder = tmp_path / "keeper"
    folder.mkdir()
    keeper = Server(folder, server.clock)
    text = server.config.read_text()
    vault = text[text.index("[[vault]]") :].split("[[job]]")[0].split("[encryption]")[0]
    keeper.config.write_text(f'[state]\ndir = "{keeper.state}"\n{vault}')
    keeper.key_file.write_bytes(server.key_file.read_bytes())
    words = ("object-lock", "extend", "--for-servers", "--key", keeper.key_file)
    there = client(emulator.s3_url).list_object_versions(Bucket=bucket_of(server))["Versions"]
    plan = keeper.json(*words, "--dry-run")
    assert (plan["plan"], plan["objects"], plan["looked"]) == (True, len(there), len(there))
    assert keeper.json(*words)["looked"] == len(there)
    done = keeper.json(*words)
    assert (done["looked"], done["due"], done["servers"], done["left_out"]) == (0, 0, [], 0)
    assert "protects from mistakes, not from an intruder" in server.run("object-lock", "extend").stderr
    assert "mistakes" not in keeper.run(*words).stderr
    of = {"Bucket": bucket_of(server), "Key": there[0]["Key"]}
    client(emulator.s3_url).delete_object(**of)
    told = keeper.run(*words)
    assert (told.exit_code, "somebody put delete markers" in told.stderr) == (3, True)
    renewal = keeper.state / "keeper" / "cold" / "renewal"
    assert {path.name for path in renewal.rglob("*.sqlite")} == {"ends.sqlite"}
    assert not (keeper.state / "inventory.sqlite").exists()
    assert "go with --for-servers" in keeper.fails(2, "object-lock", "extend", "--max-new", 3)


def test_versions_and_then_locks_switched_on_later(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night without versions, one with them, one with a lock: all are locked, have a date, and restore."""
    server = bucket_server(tmp_path, emulator, monkeypatch, lock="")
    s3, name = client(emulator.s3_url), bucket_of(server)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    (server.source / "second.txt").write_text("with versions\n")
    server.backup()
    give_lock(s3, name)
    before = s3.list_object_versions(Bucket=name)["Versions"]
    assert sorted(line["VersionId"] == "null" for line in before) == [False] * 2 + [True] * 3
    _set_lock(server)
    assert server.json("object-lock", "extend", "--dry-run")["due"] == len(before)
    done = server.json("object-lock", "extend")
    assert (done["extended"], done["dates"][0]["until"]) == (len(before), done["ends"])
    (server.source / "third.txt").write_text("with a lock\n")
    server.backup()
    done = server.json("object-lock", "extend")
    assert (done["due"], done["dates"][0]["nights"], done["dates"][0]["until"]) == (0, 3, done["ends"])
    server.done("forget", server.json("snapshots")[0]["id"])
    server.done("prune")
    assert destroyed(s3, name) == 0
    restored = server.restore(server.folder / "out")
    assert (restored / "third.txt").read_text() == "with a lock\n"
    assert_same_tree(restored, snapshot_of(server.source))


def test_a_lock_in_the_config_of_a_bucket_that_cannot_lock(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is stored without the lock that was meant, and it says why; what is there restores."""
    server = bucket_server(tmp_path, emulator, monkeypatch, lock="")
    _set_lock(server)
    (server.source / "second.txt").write_text("never stored\n")
    told = " ".join(server.run("backup").stderr.split())
    assert "`lock` of this vault needs a bucket with object lock" in told
    (text,) = [concern["text"] for concern in concerns(server)]
    assert text.startswith("backup of job main failed")
    assert len(server.json("snapshots")) == 1
    assert server.run("object-lock", "extend").exit_code != 0
    assert (server.restore(server.folder / "out") / "a.txt").read_text() == "alpha\n"
    server.done("check")


def _set_lock(server: Server) -> None:
    text = server.config.read_text()
    server.config.write_text(text.replace("path_style = true\n", f"path_style = true\n{LOCK}"))
