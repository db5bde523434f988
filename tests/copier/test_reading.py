"""Restores read from copies, and mix vaults archive by archive."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.cost.limit import CostLimit, TierCost
from backup.format.records import ForgottenRecord, RetiredRecord
from backup.inventory.content import archives, copied, copied_pruning, snapshots
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.identities import vault_identity
from backup.inventory.content.snapshots import find_snapshot
from backup.inventory.store.driver import raw_rows
from backup.inventory.store.times import micros
from backup.kinds import Outcome, RunKind
from backup.model import MIB, ByteRange, Fetched, RetrievalId, Tier, VaultName
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from backup.restorer.selection.choice import Choice
from backup.vault.directory import DirectoryVault
from tests.copier.support import copies, nights
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock, PowerCut
from tests.support.emulated import RunningEmulator
from tests.support.rebuilds import Bare, lines_of
from tests.support.rigs import s3_client, s3_vault
from tests.support.transaction_cuts import Calling
from tests.support.trees import Seen, snapshot_of

FREE_OF_COST = [TierCost(tier, Decimal(0)) for tier in Tier]


def restored(site: Site, tmp_path: Path, name: str) -> Iterator[dict[bytes, Seen]]:
    """What each snapshot gives, oldest first; all of them whole."""
    for snapshot in site.snapshots():
        target = tmp_path / f"{name}-{snapshot.number}"
        report = site.restore(snapshot.id, target)
        assert report.outcome is Outcome.DONE, report.problems
        yield dict(snapshot_of(target))


def data_files(site: Site, vault: Vault, folder: Path) -> list[Path]:
    """The files of the job's data archives in a directory vault, by archive."""
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
        own = {archive.number: archive for archive in every if not archive.label.generation}
        there = {copy.number: copy for copy in copied.copies_of(tx, own)}
    found = own if vault is site.vault else there
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    return [files[str(found[number].archive_id).rsplit("/", 1)[-1]] for number in own]


@dataclass(frozen=True)
class Copied:
    """A server with some nights, all copied, to be taken from: its folder, and what each night saw."""

    folder: Path
    seen: list[dict[bytes, Seen]] = field(repr=False)


@pytest.fixture(scope="module")
def copied_nights(tmp_path_factory: pytest.TempPathFactory) -> Copied:
    folder = tmp_path_factory.mktemp("copied")
    (folder / "source").mkdir()
    site, second = in_folder(folder, folder)
    seen = nights(site, folder / "source", 4)
    assert copies(site, second).outcome is Outcome.DONE
    site.close()
    return Copied(folder, seen)


def in_folder(folder: Path, made: Path) -> tuple[Site, DirectoryVault]:
    """The server in a folder, with its own vault, and the other one; it was `made` in that one."""
    clock = ManualClock()
    vault, second = (
        DirectoryVault(VaultName(name), str(folder / name), clock) for name in ("vault", "second")
    )
    for each in (vault, second):
        if not (folder / each.name).exists():
            each.create()
    return Site.attach(folder / "state", vault, [made / "source"], clock=clock), second


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate]
)
@given(st.data())
def test_whatever_one_vault_lacks_comes_from_the_other(copied_nights: Copied, data: st.DataObject) -> None:
    """Of each archive one of two copies is gone or damaged, half of them here; every night comes back."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "server"
        shutil.copytree(copied_nights.folder, folder)
        site, second = in_folder(folder, copied_nights.folder)
        own = data_files(site, site.vault, folder / "vault")
        theirs = data_files(site, second, folder / "second")
        assert len(own) == len(theirs) >= 4
        half = set(data.draw(st.permutations(range(len(own))), label="gone here")[: len(own) // 2])
        fates = data.draw(st.lists(st.booleans(), min_size=len(own), max_size=len(own)), label="only damaged")
        for number, (here, there) in enumerate(zip(own, theirs, strict=True)):
            spoil(here if number in half else there, only_damaged=fates[number])
        first = data.draw(st.sampled_from([None, second.name]), label="reads first")
        both = replace(site, copies=(second,), reads_first=first)
        assert list(restored(both, Path(scratch), "both")) == copied_nights.seen
        assert list(restored(replace(both, reads_first=None), Path(scratch), "again")) == copied_nights.seen
        site.close()


def spoil(path: Path, *, only_damaged: bool) -> None:
    """Take an archive out of a directory vault, or flip all its bits."""
    path.parent.chmod(0o700)
    if not only_damaged:
        path.unlink()
        return
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes(byte ^ 255 for byte in good))


def test_what_is_lacking_is_recorded_as_lost_where_it_lacks(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 4)
    copies(site, second)
    spoil(data_files(site, site.vault, tmp_path / "vault")[0], only_damaged=False)
    spoil(data_files(site, second, tmp_path / "second")[1], only_damaged=False)
    both = replace(site, copies=(second,))
    assert list(restored(both, tmp_path, "own")) == seen
    assert list(restored(replace(both, reads_first=second.name), tmp_path, "theirs")) == seen
    with site.inventory.reading() as tx:
        lost_here = [number for number, state in archives.states(tx).items() if state is ArchiveState.LOST]
        number = archives.get_or_create_vault(tx, second.name)
        lost_there = [copy for copy in copied.list_copies(tx, number) if copy.state is ArchiveState.LOST]
    assert (len(lost_here), len(lost_there)) == (1, 1)


def test_what_another_process_deletes_there_is_not_lost(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """Its deletion may still come: what counted as lost would be sent again before that is over."""
    nights(site, source, 1)
    copies(site, second)

    def deleted() -> None:
        for path in data_files(site, second, tmp_path / "second"):
            spoil(path, only_damaged=False)
        with site.inventory.writing() as tx:
            there = copied.vault_number(tx, second.name)
            every = [copy.archive for copy in copied.list_copies(tx, there)]
            copied_pruning.decide_deletion(tx, there, every, clock.now())

    asked = FaultyVault(second)
    replace(site, copies=(asked,), reads_first=second.name).restore("latest", tmp_path / "before")
    going = Calling(second, [*asked.calls].index("request_retrieval"), deleted)
    replace(site, copies=(going,), reads_first=second.name).restore("latest", tmp_path / "while")
    with site.inventory.reading() as tx:
        states = {copy.state for copy in copied.list_copies(tx, copied.vault_number(tx, second.name))}
    assert going.calls["request_retrieval"]
    assert states == {ArchiveState.DELETING}


def test_what_only_copies_have_comes_out_of_a_twin(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """Its first pack was never copied: compaction had its contents stored again in another one before."""
    (source / "kept").write_bytes(os.urandom(1_500_000))
    site.backup()
    (source / "file").write_bytes(os.urandom(1_500_000))
    site.backup()
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
    packs = [archive.label.pack_id for archive in every if not archive.label.generation]
    site.amend(RetiredRecord([*packs[-1:]]), kind=RunKind.COMPACT)
    site.backup()
    copies(site, second)
    seen = list(restored(site, tmp_path, "before"))
    site.amend(ForgottenRecord([2, 3], micros(clock.now())))
    (source / "file").unlink()
    site.backup()
    for _ in range(3):
        site.prune(grace=timedelta(hours=1))
        clock.advance(timedelta(days=2))
    with site.inventory.reading() as tx:
        alone = snapshots.list_snapshots(tx, also_forgotten=True, also_alone=True)[1:3]
    both = replace(site, copies=(second,), reads_first=second.name)
    for snapshot, was in zip(alone, seen[1:], strict=True):
        target = tmp_path / f"alone-{snapshot.number}"
        report = both.restore(snapshot.id, target)
        assert report.outcome is Outcome.DONE, report.problems
        assert dict(snapshot_of(target)) == was


def test_what_was_stored_again_and_is_lost_since_is_read_there(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """Its first pack is retired, and sound: the restore asked for the second one, and has no keys of this."""
    (source / "file").write_bytes(os.urandom(1_500_000))
    site.backup()
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
    packs = [archive.label.pack_id for archive in every if not archive.label.generation]
    seen = dict(snapshot_of(source))
    site.amend(RetiredRecord([*packs]), kind=RunKind.COMPACT)
    (source / "changed").write_bytes(b"as well")
    site.backup()
    copies(site, second)
    spoil(data_files(site, site.vault, tmp_path / "vault")[-1], only_damaged=False)
    (first, _) = site.snapshots()
    report = replace(site, copies=(second,)).restore(first.id, tmp_path / "out")
    assert report.outcome is Outcome.DONE, report.problems
    assert dict(snapshot_of(tmp_path / "out")) == seen


@pytest.mark.parametrize("only_damaged", [False, True])
@pytest.mark.parametrize("amount", ["0.10", "0.03", None])
def test_what_another_vault_costs_stays_within_the_limit(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, amount: str | None, only_damaged: bool
) -> None:
    """Each read elsewhere costs 5 cents: a limit ends it, and without one nothing does."""
    nights(site, source, 1)
    copies(site, second)
    for path in data_files(site, site.vault, tmp_path / "vault"):
        spoil(path, only_damaged=only_damaged)
    asked: list[VaultName] = []

    def cost_of(vault: VaultName, ranges: int, *_: object) -> Decimal:
        asked.append(vault)
        return ranges * Decimal("0.05")

    limit = CostLimit(None if amount is None else Decimal(amount), "this restore", FREE_OF_COST)
    both = replace(site, copies=(second,), cost_of=cost_of, limit=limit)
    report = both.restore("latest", tmp_path / "out")
    paid = amount is None or Decimal(amount) >= len(asked) * Decimal("0.05")
    assert set(asked) == {second.name}
    assert (report.outcome is Outcome.DONE) is paid, report.problems


def test_what_is_damaged_here_is_read_there(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 3)
    copies(site, second)
    own = data_files(site, site.vault, tmp_path / "vault")
    theirs = data_files(site, second, tmp_path / "second")
    for number, paths in enumerate(zip(own, theirs, strict=True)):
        spoil(paths[number % 2], only_damaged=True)
    both = replace(site, copies=(second,))
    assert list(restored(both, tmp_path, "both")) == seen
    for snapshot in site.snapshots():
        report = both.restore(
            snapshot.id, tmp_path / f"verified-{snapshot.number}", choice=Choice(verify=True)
        )
    assert any("check --vault" in warning for warning in report.warnings), "nobody is told"
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
        numbers = [archive.number for archive in every if not archive.label.generation]
        opened = {archive for (archive,) in raw_rows(tx, "SELECT archive FROM readings", ())}
    assert not opened & set(numbers[::2]), "damaged, and recorded as opened"
    assert opened, "what is sound there was opened"
    with pytest.raises(AssertionError, match="Problem"):
        list(restored(site, tmp_path, "own"))


def test_what_a_rebuilt_inventory_finds_missing_at_home_is_read_there(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """It has not met the vault yet, and marks nothing in it as lost."""
    seen = nights(site, source, 3)
    copies(site, second)
    machine = Bare(tmp_path / "heir", site.vault, site)
    machine.rebuild(Wish(lines=lines_of(site)))
    heir = machine.site()
    copies(heir, second, with_key=True)
    with heir.inventory.reading() as tx:
        assert vault_identity(tx, heir.vault.name) is None
    for number, path in enumerate(data_files(heir, heir.vault, tmp_path / "vault")):
        if number % 2:
            spoil(path, only_damaged=False)
    both = replace(heir, copies=(second,))
    told = 0
    for snapshot, was in zip(heir.snapshots(), seen, strict=True):
        report = both.restore(snapshot.id, tmp_path / snapshot.id)
        assert (report.outcome, dict(snapshot_of(tmp_path / snapshot.id))) == (Outcome.DONE, was)
        told += any("did not give back" in warning for warning in report.warnings)
    assert told
    with heir.inventory.reading() as tx:
        assert ArchiveState.LOST not in archives.states(tx).values()


class ReadVault(FaultyVault):
    """A vault of which is known what it was read of; the power goes at the first read of one archive."""

    def __init__(self, vault: Vault, dark: str = "") -> None:
        super().__init__(vault)
        self.read: list[str] = []
        self._at = dark

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """As of `Vault`."""
        if self._at and self._at in retrieval_id:
            raise PowerCut("while another archive is read")
        self.read.append(retrieval_id)
        return super().fetch(retrieval_id, extent)


@pytest.mark.parametrize("amount", [None, "0.01"])
def test_what_was_found_unsound_is_left_alone_by_the_next_process(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, amount: str | None
) -> None:
    """Where the limit allows it: it is read from the copy at once, and told."""
    (source / "kept").write_bytes(os.urandom(1_500_000))
    seen = nights(site, source, 2)
    copies(site, second)
    own = data_files(site, site.vault, tmp_path / "vault")
    spoil(own[0], only_damaged=True)
    ids = [path.name for path in own]
    limit = CostLimit(None if amount is None else Decimal(amount), "this restore", FREE_OF_COST)
    priced = replace(site, limit=limit, cost_of=lambda *_: Decimal("0.01"))
    first = ReadVault(site.vault, ids[1])
    with pytest.raises(PowerCut):
        replace(priced, vault=first, copies=(second,)).restore("latest", tmp_path / "out")
    assert any(ids[0] in name for name in first.read)
    later = ReadVault(site.vault)
    report = replace(priced, vault=later, copies=(second,)).restore("latest", tmp_path / "out")
    if amount is not None:
        assert any(ids[0] in name for name in later.read), "nothing is left to pay for another"
        return
    assert report.outcome is Outcome.DONE, report.problems
    assert dict(snapshot_of(tmp_path / "out")) == seen[-1]
    assert not any(ids[0] in name for name in later.read), "it was read again"
    assert any("did not give back 1 archive" in warning for warning in report.warnings)


def test_from_the_named_vault_alone(site: Site, source: Path, second: DirectoryVault, tmp_path: Path) -> None:
    seen = nights(site, source, 2)
    copies(site, second)
    asked = FaultyVault(site.vault)
    one = replace(site, vault=asked, copies=(second,), reads_first=second.name)
    assert list(restored(one, tmp_path, "second")) == seen
    assert not asked.calls, "the job's own vault was asked"
    report = one.restore(one.snapshots()[-1].id, tmp_path / "more")
    assert report.from_vaults == "1 archive from vault second"


def test_the_latest_there_is_the_newest_that_was_copied(
    site: Site, source: Path, second: DirectoryVault
) -> None:
    nights(site, source, 2)
    copies(site, second)
    nights(site, source, 1, first=2)
    with site.inventory.reading() as tx:
        found = [find_snapshot(tx, "latest", copied_to=vault).number for vault in (None, second.name)]
        assert found == [3, 2]
        newest = find_snapshot(tx, "latest", copied_to=site.vault.name)
        assert newest.number == 3
        assert find_snapshot(tx, newest.id, copied_to=second.name) == newest, "mixed from both, by its id"


def test_a_cold_vault_is_waited_for_only_where_it_is_needed(
    site: Site, source: Path, emulator: RunningEmulator, tmp_path: Path, clock: ManualClock
) -> None:
    bucket: Vault = s3_vault(s3_client(emulator.s3_url), "cold-copies", name="cold", clock=clock)
    bucket.create()
    site = replace(site, job=replace(site.job, part_size=8 * MIB))
    seen = nights(site, source, 2)
    copies(site, bucket)
    waits: list[object] = []
    both = replace(site, copies=(bucket,), wait=lambda: waits.append(emulator.advance(13 * 3600)))
    assert list(restored(both, tmp_path, "all")) == seen
    assert not waits
    spoil(data_files(site, site.vault, tmp_path / "vault")[0], only_damaged=False)
    assert list(restored(both, tmp_path, "mixed")) == seen
    assert waits
