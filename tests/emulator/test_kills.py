"""Killed at any moment, the emulator has all that it answered for, and no half archive."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support import campaigns
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator, write_accounts
from tests.support.emulator_clients import MIB, pattern, tree_hash

pytestmark = pytest.mark.slow

ROUNDS = campaigns.share("NIGHTVAULT_TEST_KILLS", 4)
HOURS = 3600


class Writer(threading.Thread):
    """Uploads and deletes until the emulator is gone; remembers what it was answered."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._chance = random.Random(seed)
        self.stored: set[str] = set()
        self.deleted: set[str] = set()
        self.doubtful: set[str] = set()

    def run(self) -> None:
        import boto3

        glacier = boto3.client(
            "glacier",
            endpoint_url=self._url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            while True:
                self._store_one(glacier)
                if self._chance.random() < 0.4:
                    self._delete_one(glacier)
        except (BotoCoreError, ClientError):
            return

    def _store_one(self, glacier: Any) -> None:
        data = pattern(MIB + self._chance.randrange(1, MIB))
        if self._chance.random() < 0.3:
            self.stored.add(glacier.upload_archive(vaultName="v", body=data)["archiveId"])
            return
        upload = glacier.initiate_multipart_upload(vaultName="v", partSize=str(MIB))["uploadId"]
        for at in (MIB, 0):
            body = data[at : at + MIB]
            where = f"bytes {at}-{at + len(body) - 1}/*"
            glacier.upload_multipart_part(vaultName="v", uploadId=upload, range=where, body=body)
        whole = {"archiveSize": str(len(data)), "checksum": tree_hash(data)}
        done = glacier.complete_multipart_upload(vaultName="v", uploadId=upload, **whole)
        self.stored.add(done["archiveId"])

    def _delete_one(self, glacier: Any) -> None:
        archive = self._chance.choice(sorted(self.stored - self.doubtful) or [""])
        if archive:
            self.doubtful.add(archive)
            glacier.delete_archive(vaultName="v", archiveId=archive)
            self.deleted.add(archive)


def _listed(emulator: RunningEmulator, glacier: Any) -> dict[str, dict[str, Any]]:
    emulator.make_inventories()
    job = glacier.initiate_job(vaultName="v", jobParameters={"Type": "inventory-retrieval"})["jobId"]
    emulator.advance(4 * HOURS)
    listing = json.loads(glacier.get_job_output(vaultName="v", jobId=job)["body"].read())
    return {archive["ArchiveId"]: archive for archive in listing["ArchiveList"]}


def _is_whole(emulator: RunningEmulator, glacier: Any, archive: dict[str, Any]) -> bool:
    wanted = {"Type": "archive-retrieval", "ArchiveId": archive["ArchiveId"], "Tier": "Expedited"}
    job = glacier.initiate_job(vaultName="v", jobParameters=wanted)["jobId"]
    emulator.advance(300)
    data = glacier.get_job_output(vaultName="v", jobId=job)["body"].read()
    return (len(data), tree_hash(data)) == (archive["Size"], archive["SHA256TreeHash"])


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_kill_at_any_moment(tmp_path: Path, seed: int) -> None:
    from tests.support.emulator_clients import client

    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts) as running:
        client(running.glacier_url).create_vault(vaultName="v")
        writers = [Writer(running.glacier_url, seed * 2 + number) for number in range(2)]
        for writer in writers:
            writer.start()
        until = time.monotonic() + 30  # a machine that is busy with other things needs a while to begin
        while not any(writer.stored for writer in writers) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(random.Random(seed).random())
        running.kill()
        for writer in writers:
            writer.join(30)
        running.start()
        glacier = client(running.glacier_url)
        listed = _listed(running, glacier)
        for writer in writers:
            assert writer.stored - writer.doubtful <= set(listed)
            assert not writer.deleted & set(listed)
        assert all(_is_whole(running, glacier, archive) for archive in listed.values())
        assert sum(len(writer.stored) for writer in writers) > 0
