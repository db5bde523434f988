"""Rebuilds from buckets: at once while catalogs are readable; frozen ones are retrieved like data."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backup.cost.limit import CostLimit, TierCost
from backup.errors import LimitRefusedError
from backup.model import PackKind, Tier
from backup.rebuilder.context import Wish
from backup.rebuilder.report import RebuildReport
from backup.transfer.fetching.wants import Want
from backup.vault.s3.vault import S3Vault
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.catalogs import add_a_night
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.integrity import change, fill, list_now
from tests.support.rebuilds import Bare, bare, line_of, rows
from tests.support.rigs import s3_client, s3_vault
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.slow

EVERY = campaigns.share("NIGHTVAULT_TEST_GLACIER_CUTS", 3)
DAY = 24 * 3600
CLASSES = ("GLACIER", "DEEP_ARCHIVE", "GLACIER_IR")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def client(emulator: RunningEmulator) -> Any:
    return s3_client(emulator.s3_url)


class Asked(Counter[str]):
    """How often each operation was asked of a bucket by a client."""

    def __init__(self, client: Any, bucket: str) -> None:
        super().__init__()

        def note(params: dict[str, Any], model: Any, **_: Any) -> None:
            if params.get("Bucket") == bucket:
                self[model.name] += 1

        client.meta.events.register("before-parameter-build.s3", note)


@pytest.fixture
def made(tmp_path: Path, source: Path, clock: ManualClock, emulator: RunningEmulator) -> Iterator[Any]:
    """Makes the three nights of `site` in a bucket of some class; parts are as small as S3 has them."""
    sites = []

    def make(client: Any, storage_class: str) -> Site:
        vault = s3_vault(client, f"rebuilt-{next(_numbers)}", storage_class=storage_class, prefix="a/")
        vault.create()
        site = Site.create(
            tmp_path / "state",
            vault,
            [source],
            clock=clock,
            part_size=vault.traits.smallest_part,
            wait=lambda: emulator.advance(2 * DAY + 3600),
        )
        sites.append(site)
        site.backup()
        change(source, 2, 500_000)
        clock.sleep(DAY)
        site.backup()
        (source / "third night").write_text("of three")
        clock.sleep(DAY)
        site.backup()
        return site

    yield make
    for site in sites:
        site.close()


def freeze_catalogs(client: Any, emulator: RunningEmulator, site: Site, into: str) -> None:
    """A lifecycle rule that somebody set, and the days until it has done its work."""
    bucket = bucket_of(site)
    rule = {
        "ID": "cold",
        "Status": "Enabled",
        "Filter": {"Prefix": "a/meta/"},
        "Transitions": [{"Days": 1, "StorageClass": into}],
    }
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={"Rules": [rule]},
        TransitionDefaultMinimumObjectSize="varies_by_storage_class",
    )
    emulator.advance(3 * DAY)
    found = client.list_objects_v2(Bucket=bucket, Prefix="a/meta/")["Contents"]
    assert {catalog["StorageClass"] for catalog in found} == {into}


def bucket_of(site: Site) -> str:
    assert isinstance(site.vault, S3Vault)
    return str(site.vault.state().location.split("/")[2])


@pytest.mark.parametrize("storage_class", CLASSES)
def test_at_once_and_then_built_upon(
    made: Any, client: Any, source: Path, tmp_path: Path, storage_class: str
) -> None:
    site = made(client, storage_class)
    new = bare(tmp_path, site)
    report = new.act()
    assert (report.state, report.unconfirmed, report.suspicions) == ("done", 0, ())
    assert rows(new.folder) == rows(site.folder)
    again = new.site()
    (source / "after the loss").write_text("new")
    assert again.backup().bytes_new < 1000
    again.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    again.close()


@pytest.mark.parametrize("storage_class", CLASSES)
def test_a_line_needs_no_list(
    made: Any, client: Any, source: Path, tmp_path: Path, storage_class: str
) -> None:
    site = made(client, storage_class)
    asked = Asked(client, bucket_of(site))
    new = bare(tmp_path, site)
    report = new.act(Wish(lines=[line_of(site)]))
    assert (report.state, report.suspicions) == ("done", ())
    assert report.unconfirmed > 0, "no list confirmed anything"
    assert asked["ListObjectsV2"] == 0
    assert rows(new.folder)["entries"] == rows(site.folder)["entries"]
    again = new.site()
    assert again.backup().bytes_new == 0, "the first backup confirms by the list, and stores nothing again"
    assert asked["ListObjectsV2"] > 0
    again.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    again.close()


@pytest.mark.parametrize(
    ("storage_class", "into"),
    [("GLACIER", "GLACIER"), ("DEEP_ARCHIVE", "DEEP_ARCHIVE"), ("GLACIER_IR", "DEEP_ARCHIVE")],
)
@pytest.mark.parametrize("by_line", [False, True], ids=["by list", "by line"])
def test_frozen_catalogs_are_retrieved(
    made: Any,
    client: Any,
    emulator: RunningEmulator,
    tmp_path: Path,
    storage_class: str,
    into: str,
    by_line: bool,
) -> None:
    site = made(client, storage_class)
    freeze_catalogs(client, emulator, site, into)
    asked = Asked(client, bucket_of(site))
    new = bare(tmp_path, site)
    wish = Wish(lines=[line_of(site)] if by_line else [])
    waiting = new.act(wish)
    assert waiting.state == "waiting"
    assert "catalog" in waiting.waits_for
    assert not (new.folder / "inventory.sqlite").exists()
    catalogs = asked["RestoreObject"]
    assert catalogs >= 2
    assert new.act(wish).state == "waiting"
    assert asked["RestoreObject"] == catalogs, "what is under way is not asked for again"
    report = new.rebuild(wish, wait=lambda: emulator.advance(13 * 3600))
    assert (report.state, report.suspicions) == ("done", ())
    assert asked["RestoreObject"] == catalogs + by_line, "a line leads to the newest, which names the rest"
    assert rows(new.folder)["entries"] == rows(site.folder)["entries"]


def test_what_expired_meanwhile_is_asked_for_again(
    made: Any, client: Any, emulator: RunningEmulator, clock: ManualClock, tmp_path: Path
) -> None:
    site = made(client, "DEEP_ARCHIVE")
    freeze_catalogs(client, emulator, site, "DEEP_ARCHIVE")
    new = bare(tmp_path, site)
    assert new.act().state == "waiting"
    emulator.advance(30 * DAY)
    clock.sleep(30 * DAY)
    assert new.act().state == "waiting"
    emulator.advance(13 * 3600)
    assert new.act().state == "done"
    assert any("asked for again" in note for note in new.progress.notes)
    assert rows(new.folder) == rows(site.folder)


def test_what_expired_meanwhile_is_held_to_the_limit_again(
    made: Any, client: Any, emulator: RunningEmulator, clock: ManualClock, tmp_path: Path
) -> None:
    """It was paid for nothing, and costs the same again."""
    site = made(client, "DEEP_ARCHIVE")
    freeze_catalogs(client, emulator, site, "DEEP_ARCHIVE")
    new, asked = bare(tmp_path, site), Asked(client, bucket_of(site))
    costs: list[Decimal] = []

    def limit_on(wants: Sequence[Want]) -> CostLimit:
        costs.append(Decimal(len(wants)))
        most = None if len(costs) == 1 else costs[0]
        return CostLimit(most, "this rebuild", [TierCost(Tier.STANDARD, costs[-1])], less="rebuild less")

    new.limit_on = limit_on
    assert new.act().state == "waiting"
    before = asked["RestoreObject"]
    assert before == costs[0] > 0
    assert new.act().state == "waiting"
    assert len(costs) == 1, "nothing was to be asked for"
    emulator.advance(30 * DAY)
    clock.sleep(30 * DAY)
    for _ in range(2):
        with pytest.raises(LimitRefusedError, match="this rebuild would cost"):
            new.act()
    assert costs[1:] == [2 * costs[0]] * 2
    assert asked["RestoreObject"] == before


@pytest.mark.parametrize("storage_class", CLASSES)
def test_uncovered_packs_are_built_upon(
    made: Any, client: Any, emulator: RunningEmulator, source: Path, tmp_path: Path, storage_class: str
) -> None:
    site = made(client, storage_class)
    new_bytes = add_a_night(site, source)
    new = bare(tmp_path, site)
    report = new.rebuild(Wish(deep=True), wait=lambda: emulator.advance(13 * 3600))
    assert (report.recovered_packs, report.suspicions) == (2, ())
    assert kept(new) == {"inventory.sqlite", "restores", "spool"}
    found, was = archives(new.folder), archives(site.folder)
    assert found == was, "with the hash of each pack, which the bucket's list did not tell"
    again = new.site()
    assert again.backup().bytes_new < 1000 < new_bytes
    again.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    again.close()


def kept(new: Bare) -> set[str]:
    return {path.name for path in new.folder.iterdir() if not path.name.endswith("lock")}


def archives(folder: Path) -> set[tuple[Any, ...]]:
    """Data archives: pack id, size, tree hash, archive id."""
    return {(row[4], *row[6:]) for row in rows(folder)["data"]}


@pytest.mark.parametrize("place", [0.0005, 0.5, 0.99999], ids=["header", "frame", "trailer"])
def test_an_uncovered_pack_that_is_damaged_is_named(
    made: Any, client: Any, source: Path, tmp_path: Path, place: float
) -> None:
    site = made(client, "GLACIER_IR")
    before = {archive.archive_id for archive in list_now(site.vault).archives}
    add_a_night(site, source)
    archive_id = next(
        archive.archive_id
        for archive in list_now(site.vault).archives
        if archive.label and archive.label.kind is PackKind.DATA and archive.archive_id not in before
    )
    key = {"Bucket": bucket_of(site), "Key": f"a/{archive_id}"}
    data = bytearray(client.get_object(**key)["Body"].read())
    data[int(len(data) * place)] ^= 1
    client.put_object(**key, Body=bytes(data), StorageClass="GLACIER_IR")
    asked = Asked(client, key["Bucket"])
    report = bare(tmp_path, site).act(Wish(deep=True))
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [
        ("not-covered", archive_id)
    ]
    assert report.recovered_packs == 1
    assert asked["GetObject"] > 0


def test_cut_at_the_calls_of_a_rebuild_with_frozen_catalogs(
    made: Any, client: Any, emulator: RunningEmulator, clock: ManualClock, source: Path, tmp_path: Path
) -> None:
    site = made(client, "DEEP_ARCHIVE")
    add_a_night(site, source)
    freeze_catalogs(client, emulator, site, "GLACIER")
    was = None
    for number in itertools.count(step=EVERY):
        new = bare(tmp_path, site, f"cut {number}")
        cut = FaultyVault(site.vault, cut_at(number, after=bool(number % 2)))
        report, met = run_to_the_end(new, cut, site.vault, emulator)
        assert (report.recovered_packs, report.suspicions) == (2, ())
        assert kept(new) == {"inventory.sqlite", "restores", "spool"}
        was = was or rows(new.folder)
        assert rows(new.folder) == was
        if not met:
            assert number >= 20, "too few calls for a test of cuts"
            break
        emulator.advance(30 * DAY)  # what was retrieved is frozen again
        clock.sleep(30 * DAY)


def run_to_the_end(
    new: Bare, cut: FaultyVault, vault: Any, emulator: RunningEmulator
) -> tuple[RebuildReport, bool]:
    """All acts, of which one is cut; and whether the cut was met."""
    seam: Any = cut
    for _ in range(8):
        try:
            report = new.act(Wish(deep=True), vault=seam)
            if report.state == "done":
                return report, seam is vault
        except PowerCut:
            seam = vault
            assert not (new.folder / "inventory.sqlite").exists()
        emulator.advance(13 * 3600)
    raise AssertionError("the rebuild never ended")


def test_every_pack_uncovered_is_read_a_few_at_a_time(
    made: Any, client: Any, source: Path, tmp_path: Path
) -> None:
    site = made(client, "GLACIER_IR")
    (source / "many").mkdir()
    fill(source / "many", 7, 20_000_000)
    add_a_night(site, source)
    new, most = bare(tmp_path, site), 0

    def watch(params: dict[str, Any], **_: Any) -> None:
        nonlocal most
        there = len(list((new.folder / "rebuild").glob("*.pack")))
        most = max(most, there)

    client.meta.events.register("before-call.s3.GetObject", watch)
    report = new.act(Wish(deep=True))
    assert report.recovered_packs > 4
    assert 3 <= most <= 3 + 4, "catalogs, and one batch of packs"
