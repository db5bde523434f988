"""Listings that a newer one of their vault has replaced do not stay in the inventory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from backup.inventory.store.schema import listed_archives, listings
from tests.support.nightly_servers import DAY, Nights


def _kept(nights: Nights) -> tuple[int, int]:
    """How many listings the inventory has, and how many lines."""
    with nights.site.inventory.reading() as tx:
        heads = tx.connection.execute(f'SELECT count(*) FROM "{listings.name}"').fetchone()[0]
        return heads, tx.connection.execute(f'SELECT count(*) FROM "{listed_archives.name}"').fetchone()[0]


def test_a_year_of_prunes_leaves_the_newest_lists_alone(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.night()
    for _ in range(12):
        nights.clock.advance(7 * DAY)
        nights.site.prune()
    heads, lines = _kept(nights)
    assert heads == 2
    assert lines == 2 * len(nights.listed())
    nights.site.close()


def test_a_list_of_the_last_days_stays_for_who_compares_with_it(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    nights.night()
    for _ in range(6):
        nights.clock.advance(timedelta(hours=6))
        nights.site.prune()
    assert _kept(nights)[0] == 6
    nights.site.close()
