"""Vaults of each kind, empty, with a way to make hours pass."""

from __future__ import annotations

import errno
import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.model import ArchiveId, VaultName
from backup.protocols import Vault
from backup.vault import dirfd
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from backup.vault.s3.vault import S3Vault
from tests.support.archives import store
from tests.support.doubles import FaultyVault, ManualClock
from tests.support.emulated import REGION, RunningEmulator, write_accounts
from tests.support.rigs import HOUR, KEPT_DAYS, Rig, glacier_client, ripen, s3_client, s3_vault
from tests.support.s3_servers import running
from tests.support.temporary_files import used

MOST_STATE = 100 * 1000**2
_numbers = itertools.count()
_running: list[RunningEmulator] = []


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """One emulator for all tests of this process."""
    folder = tmp_path_factory.mktemp("emulator")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        _running.append(running)
        yield running
        _running.clear()


@pytest.fixture(autouse=True)
def _little_room() -> Iterator[None]:
    """Let the emulator forget the vaults of tests that are over, once they hold much."""
    yield
    for emulator in _running:
        if used(str(emulator.state)) > MOST_STATE:
            emulator.forget()


@pytest.fixture(scope="session")
def client(emulator: RunningEmulator) -> Any:
    """One client for all tests: making one takes longer than most of them."""
    return glacier_client(emulator)


@pytest.fixture
def glacier(emulator: RunningEmulator, client: Any) -> Iterator[GlacierVault]:
    """A Glacier vault, made; planned faults are forgotten afterwards."""
    vault = GlacierVault(VaultName("cold"), client, f"vault-{next(_numbers)}")
    vault.create()
    yield vault
    emulator.set_faults([])


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryVault:
    """A directory vault, made."""
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), ManualClock())
    vault.create()
    return vault


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[Any]:
    """A client of SeaweedFS, in which there is a bucket `shared`."""
    with running("seaweedfs") as server:
        client = s3_client(server.url)
        client.create_bucket(Bucket="shared")
        yield client


@pytest.fixture(scope="session")
def ministack() -> Iterator[Any]:
    """A client of MiniStack, in which there is a bucket `shared`."""
    with running("ministack") as server:
        client = s3_client(server.url)
        client.create_bucket(Bucket="shared", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield client


_LACKING: dict[str, Any] = {"keeps_part_size": False, "keeps_part_hashes": False, "lists_tree_hashes": False}


def seaweedfs_rig(client: Any) -> Rig:
    """All that SeaweedFS knows of S3 but classes: what is there can be read at once."""
    vault = s3_vault(client, "shared", prefix=f"{next(_numbers)}/", storage_class="STANDARD")
    elsewhere = s3_vault(client, f"elsewhere-{next(_numbers)}", storage_class="STANDARD")
    lacking = {**_LACKING, "forgets_replaced_parts": False}
    return Rig(vault, lambda: None, lambda: None, elsewhere, **lacking)


def ministack_rig(client: Any) -> Rig:
    """A frozen class, whose restores take MiniStack two seconds; it takes CRC64NVME for a composite one."""
    settings: dict[str, Any] = {"storage_class": "GLACIER", "checksums": "none"}
    vault = s3_vault(client, "shared", prefix=f"{next(_numbers)}/", **settings)
    elsewhere = s3_vault(client, f"elsewhere-{next(_numbers)}", **settings)
    lacking = {**_LACKING, "ripens_by_itself": True}
    return Rig(vault, lambda: time.sleep(2.2), lambda: None, elsewhere, **lacking)


@pytest.fixture(scope="session")
def emulated_s3(emulator: RunningEmulator) -> Any:
    """A client of the emulator's S3."""
    return s3_client(emulator.s3_url)


def _forbid_to_delete(client: Any, vault: S3Vault) -> ArchiveId:
    """Store an archive whose deletion the bucket's policy forbids to everybody."""
    archive_id, bucket = store(vault, b"kept"), vault.state().location.split("/")[2]
    keys = f"arn:aws:s3:::{bucket}/*{archive_id}"
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": keys}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [statement]}))
    return archive_id


def _lock(emulator: RunningEmulator, client: Any, vault: GlacierVault) -> ArchiveId:
    """Let the vault's archives grow old, store another, and lock the vault for its young ones."""
    emulator.advance(KEPT_DAYS * 24 * HOUR)
    arn = vault.state().location
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "glacier:DeleteArchive",
        "Resource": arn,
        "Condition": {"NumericLessThan": {"glacier:ArchiveAgeInDays": str(KEPT_DAYS)}},
    }
    policy = {"Policy": json.dumps({"Statement": [statement]})}
    client.initiate_vault_lock(vaultName=arn.rpartition("/")[2], policy=policy)
    return store(vault, b"kept")


def _protect(vault: DirectoryVault, monkeypatch: pytest.MonkeyPatch) -> ArchiveId:
    """Store an archive as `chattr +i` would protect it, which not every file system can."""
    archive_id, remove = store(vault, b"kept"), dirfd.remove

    def refusing(name: str, *, dir_fd: int) -> None:
        if name == archive_id:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        remove(name, dir_fd=dir_fd)

    monkeypatch.setattr(dirfd, "remove", refusing)
    return archive_id


def _emulated_rig(client: Any, advance: Callable[[], object], **settings: Any) -> Rig:
    vault = s3_vault(client, f"vault-{next(_numbers)}", **settings)
    vault.create()
    elsewhere = s3_vault(client, f"elsewhere-{next(_numbers)}", **settings)
    lacking = {**_LACKING, "keeps_part_hashes": True}
    protected = partial(_forbid_to_delete, client, vault)
    return Rig(vault, advance, lambda: None, elsewhere, store_protected=protected, **lacking)


def frozen_rig(request: pytest.FixtureRequest) -> Rig:
    """A frozen class on the emulator's clock."""
    emulator: RunningEmulator = request.getfixturevalue("emulator")
    client = request.getfixturevalue("emulated_s3")
    return _emulated_rig(client, lambda: emulator.advance(49 * 3600), storage_class="DEEP_ARCHIVE")


def instant_rig(request: pytest.FixtureRequest) -> Rig:
    """The class that can be read at once, on the emulator."""
    client = request.getfixturevalue("emulated_s3")
    return _emulated_rig(client, lambda: None, storage_class="GLACIER_IR", prefix="a/b/")


_EMULATED = {"s3 frozen": frozen_rig, "s3 instant": instant_rig}
_S3_RIGS: dict[str, Callable[[Any], Rig]] = {"seaweedfs": seaweedfs_rig, "ministack": ministack_rig}
_RIGS: tuple[Any, ...] = (
    *("directory", "glacier", "directory behind faults", "glacier behind faults"),
    *(*_EMULATED, "s3 frozen behind faults"),
    *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.real]) for name in _S3_RIGS),
)


@pytest.fixture(params=_RIGS)
def rig(request: pytest.FixtureRequest) -> Rig:
    """Each implementation of the seam in turn, also seen through a FaultyVault without faults."""
    if request.param in _S3_RIGS:
        return _S3_RIGS[request.param](request.getfixturevalue(request.param))
    if request.param.startswith("s3 "):
        made = _EMULATED[request.param.removesuffix(" behind faults")](request)
        if request.param in _EMULATED:
            return made
        return replace(made, vault=FaultyVault(made.vault), elsewhere=FaultyVault(made.elsewhere))
    wrap: Callable[[Vault], Vault] = FaultyVault if "faults" in request.param else lambda vault: vault
    if request.param.startswith("directory"):
        path = str(request.getfixturevalue("tmp_path") / "elsewhere")
        elsewhere: Vault = DirectoryVault(VaultName("disk"), path, ManualClock())
        vault = request.getfixturevalue("directory")
        protected = partial(_protect, vault, request.getfixturevalue("monkeypatch"))
        return Rig(wrap(vault), lambda: None, lambda: None, wrap(elsewhere), store_protected=protected)
    emulator: RunningEmulator = request.getfixturevalue("emulator")
    vault = request.getfixturevalue("glacier")
    client = request.getfixturevalue("client")
    elsewhere = GlacierVault(VaultName("cold"), client, f"elsewhere-{next(_numbers)}")
    return Rig(
        wrap(vault),
        lambda: ripen(emulator),
        emulator.make_inventories,
        wrap(elsewhere),
        keeps_tokens=True,
        store_protected=partial(_lock, emulator, client, vault),
    )
