"""Killed at any moment, the emulator has every object that it answered for, whole, and no half one."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.s3_clients import MIB, client, new_bucket

pytestmark = pytest.mark.slow


def test_what_was_answered_is_there_and_nothing_half(tmp_path: Path) -> None:
    chance = random.Random(5)
    stored: dict[str, bytes] = {}
    with RunningEmulator(tmp_path / "state", write_accounts(tmp_path / "accounts.toml")) as running:
        bucket = new_bucket(client(running.s3_url))
        for turn in range(4):
            s3 = client(running.s3_url)
            killer = threading.Timer(chance.uniform(0.1, 0.6), running.kill)
            try:
                for number in range(1000):
                    if number == 1:  # one was answered, however slow this machine is now
                        killer.start()
                    key, body = f"{turn}-{number}", chance.randbytes(3 * MIB)
                    s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
                    stored[key] = body
            except (BotoCoreError, ClientError):
                pass
            killer.join()
            running.start()
        s3 = client(running.s3_url)
        listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
        assert set(stored) <= set(listed)
        for key in listed:
            body = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")["Body"].read()
            assert len(body) == 3 * MIB
            assert body == stored.get(key, body)
        assert len(list((tmp_path / "state" / "files").iterdir())) == len(listed)
