"""A check names what others wrote of a server's jobs, each pair once it is answered no more."""

from __future__ import annotations

from backup.format.enrolment import HeirMark
from backup.inventory.content.strangers import open_strangers
from backup.transfer.answers import accept_catalogs
from tests.support.backups import INVENTORY_ID, Site
from tests.support.checks import check, kinds
from tests.support.shared_vaults import DAY, SharedVault, of_version_1
from tests.support.strangers import STRANGER_ID, Forgery, forge, packs_of, stranger


def _detail(shared: SharedVault, site: Site) -> str:
    """What the check says of others; it is grave or told in the exit code."""
    report = check(site)
    found = [finding.detail for finding in report.findings if finding.kind == "not-its-own"]
    assert found
    assert str(report.outcome) != "done"
    return " ".join(found)


def test_others_catalogs_are_named_until_somebody_answers(shared: SharedVault) -> None:
    first = shared.first(2)
    thief = stranger(first)
    shared.open.append(thief)
    for number in range(2):
        forge(thief, first, Forgery(condemned=packs_of(first), claims=[INVENTORY_ID], number=100 + number))
    shared.pass_time(2 * DAY)
    for _ in range(2):
        detail = _detail(shared, first)
        assert STRANGER_ID.hex() in detail
        assert "--accept " in detail
    with first.inventory.reading() as tx:
        (asked,) = open_strangers(tx, shared.vault.name)
    assert f"--accept {asked.pack}" in detail
    accept_catalogs(first.inventory, shared.vault.name, [asked.pack[:8]], "ada", shared.clock.now())
    assert "not-its-own" not in kinds(check(first))
    forge(thief, first, Forgery(number=300))
    shared.pass_time(2 * DAY)
    assert "not-its-own" not in kinds(check(first))


def test_a_mark_that_proves_nothing_is_named(shared: SharedVault) -> None:
    first = shared.first(2)
    shared.vault.add_mark(HeirMark(INVENTORY_ID, STRANGER_ID, bytes(32), bytes(64)).to_text())
    shared.pass_time()
    detail = _detail(shared, first)
    assert f"--accept {STRANGER_ID.hex()}" in detail
    accept_catalogs(first.inventory, shared.vault.name, [STRANGER_ID.hex()], "ada", shared.clock.now())
    assert "not-its-own" not in kinds(check(first))


def test_an_heir_is_told_as_newer_where_a_key_vouches_for_it(shared: SharedVault) -> None:
    """Without that it is somebody of whom nothing is proven."""
    first = shared.first(2)
    heir = shared.heir(first, "heir")
    shared.night(heir, "of the heir")
    told = check(first)
    assert "newer-catalog" in kinds(told)
    assert heir.inventory.id.hex() in str([finding.detail for finding in told.findings])
    assert told.is_grave
    assert "not-its-own" in kinds(check(of_version_1(first)))
    assert not {"not-its-own", "newer-catalog"} & set(kinds(check(heir)))
