"""What somebody switches in a bucket beneath a running program is named by the backup of that night."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.app.status.parts import Topic
from backup.app.status.status import read_status
from backup.config import load_config
from backup.vault.s3.requests import BucketRequests
from tests.support.clocks import OffsetClock
from tests.support.emulated import RunningEmulator
from tests.support.locked_servers import LOCK, bucket_of, bucket_server
from tests.support.s3_clients import client
from tests.support.servers import Server

LOOKS = ("get_bucket_lifecycle_configuration", "get_object_lock_configuration", "get_bucket_versioning")
OLD = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
OLD_DELETES = "lifecycle rule old deletes what lies in {}/: nightvault alone knows what is needed"
_LOCKS = "bucket {} locks what is stored for 90 days (COMPLIANCE): nothing can be pruned sooner"
KEPT = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 90}}


class Night:
    """A server whose nights pass, and what each asks its bucket about its settings."""

    def __init__(self, server: Server, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.s3 = server, s3
        self.clock = OffsetClock()
        server.clock = self.clock
        self.of = {"Bucket": bucket_of(server)}
        self.asked: list[str] = []
        real = BucketRequests.call

        def call(requests: BucketRequests, operation: str, *given: Any, **named: Any) -> Any:
            if operation in LOOKS:
                self.asked.append(operation)
            return real(requests, operation, *given, **named)

        monkeypatch.setattr(BucketRequests, "call", call)

    def pass_(self) -> list[str]:
        """A day, and what the backup after it warns of about the bucket."""
        self.clock.offset += timedelta(days=1)
        (self.server.source / "tonight").write_text(f"{self.clock.now()}")
        self.asked.clear()
        warnings = self.server.backup()["warnings"]
        return [text for text in warnings if text.startswith("bucket ")]

    def status(self) -> list[str]:
        """What status has to say of the bucket then, without dates."""
        concerns = read_status(load_config(str(self.server.config)), self.clock.now()).concerns
        texts = [concern.text for concern in concerns if concern.topic is Topic.VAULT]
        return [re.sub("[0-9]{4}-[0-9]{2}-[0-9]{2}", "DATE", text) for text in texts]

    def set_rules(self, *rules: dict[str, Any]) -> None:
        """Set the lifecycle rules, or take all away."""
        self.s3.delete_bucket_lifecycle(**self.of)
        if rules:
            self.s3.put_bucket_lifecycle_configuration(
                **self.of, LifecycleConfiguration={"Rules": list(rules)}
            )

    def set_lock(self, rule: dict[str, Any] | None) -> None:
        """Set the bucket's default retention, or take it away."""
        enabled = {"ObjectLockEnabled": "Enabled"} | ({"Rule": rule} if rule else {})
        self.s3.put_object_lock_configuration(**self.of, ObjectLockConfiguration=enabled)


@pytest.fixture
def night(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Night:
    """One without `lock`, in a bucket without versions."""
    server = bucket_server(tmp_path, emulator, monkeypatch, lock="")
    return Night(server, client(emulator.s3_url), monkeypatch)


def test_a_rule_that_deletes_is_named_every_night_until_it_is_gone(night: Night) -> None:
    """With one request a night, and none for a second backup of that night."""
    assert night.pass_() == []
    assert night.asked == ["get_bucket_lifecycle_configuration"]
    night.set_rules(OLD)
    for _ in range(9):
        texts = night.pass_()
        assert night.asked == ["get_bucket_lifecycle_configuration"]
        assert any("lifecycle rule old deletes what lies in" in text for text in texts)
        assert night.status() == [f"vault cold: {OLD_DELETES.format(kind)}" for kind in ("data", "meta")]
    night.asked.clear()
    night.server.backup()
    assert night.asked == []
    assert len(night.status()) == 2, "a backup that does not look takes nothing away"
    night.set_rules()
    texts = night.pass_()
    assert night.status() == []
    assert texts
    assert all("no longer: lifecycle rule old deletes" in text or "no lifecycle" in text for text in texts)
    for _ in range(8):
        texts = night.pass_()
    assert texts == []


def test_versions_and_locks_switched_on_and_off(night: Night) -> None:
    """Each within a night, by name; for a week; a lock is asked about only where there can be one."""
    assert night.pass_() == []
    night.s3.put_bucket_versioning(**night.of, VersioningConfiguration={"Status": "Enabled"})
    texts = night.pass_()
    told = [text.partition(": ")[2] for text in texts]
    assert told == ["it keeps versions of what is deleted or overwritten"]
    assert set(night.asked) == set(LOOKS[:2])
    night.set_lock(KEPT)
    locks = "locks what is stored for 90 days (COMPLIANCE): nothing can be pruned sooner"
    assert any(text.endswith(f": {locks}") for text in night.pass_())
    assert night.status() == [f"vault cold, since DATE: {_LOCKS.format(night.of['Bucket'])}"]
    night.set_lock(None)
    texts = night.pass_()
    assert night.status() == [f"vault cold, since DATE no longer: {_LOCKS.format(night.of['Bucket'])}"]
    assert any(" no longer: " in text and "90 days (COMPLIANCE)" in text for text in texts)
    for _ in range(8):
        texts = night.pass_()
    assert texts == night.status() == []


def test_versions_that_are_kept_no_longer(night: Night) -> None:
    """That they are kept does no harm; that they are not any more status says, too."""
    for status in ("Enabled", "Suspended"):
        assert night.status() == []
        night.s3.put_bucket_versioning(**night.of, VersioningConfiguration={"Status": status})
        night.pass_()
    (text,) = night.status()
    assert text == "vault cold, since DATE no longer: it keeps versions of what is deleted or overwritten"


def test_a_lock_switched_off_beneath_a_vault_that_locks(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request a night: rules are what each renewal looks at."""
    server = bucket_server(tmp_path, emulator, monkeypatch, lock=LOCK)
    night = Night(server, client(emulator.s3_url), monkeypatch)
    night.set_lock(KEPT)
    (text,) = night.pass_()
    assert ": locks what is stored for 90 days" in text
    assert night.asked == ["get_object_lock_configuration"]
    night.set_lock(None)
    (text,) = night.pass_()
    assert " no longer: locks what is stored for 90 days" in text
    assert any(" no longer: bucket " in text for text in night.status())
    assert night.asked == ["get_object_lock_configuration"]


def test_what_is_denied_stops_no_backup(night: Night) -> None:
    """The doctor names it."""
    night.pass_()
    night.set_rules(OLD)
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetLifecycleConfiguration"}
    arn = f"arn:aws:s3:::{night.of['Bucket']}"
    night.s3.put_bucket_policy(**night.of, Policy=json.dumps({"Statement": [{**statement, "Resource": arn}]}))
    assert night.pass_() == []
    night.s3.delete_bucket_policy(**night.of)
    assert night.pass_() != []
