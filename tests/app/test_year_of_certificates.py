"""A year of certificates that live seven days: the authority is away, its root changes, no night is lost."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from backup.errors import NightvaultError
from backup.pki.keys import KeyType
from backup.pki.roots import RootStage, add_root, finish_root, read_roots, switch_root
from tests.support.renewals import RenewalSite, renewal_site

HOURS_BETWEEN_LOOKS = 8
# Days; one when the root changes. A renewal is due each 2.8 to 3.5 days: hardly any passes unnoticed.
AWAY = ((60, 63), (100, 103), (140, 143), (200, 203), (260, 263), (300, 303))
ROOT_ADDED, ROOT_SWITCHED = 199, 201


def root_on(site: RenewalSite, day: int) -> None:
    """What the admin does about the root on this day; AWS has the anchor's file as it is."""
    now = site.clock.now()
    if day == ROOT_ADDED:
        add_root(site.ca, None, name=None, days=None, key_type=KeyType.P_256, now=now)
    elif day == ROOT_SWITCHED:
        switch_root(site.ca, now)
    elif day > ROOT_SWITCHED:
        roots = read_roots(site.ca, now)
        if roots.stage is RootStage.SWITCHED and not roots.waiting:
            finish_root(site.ca, now, force=False)


def test_no_night_is_lost_in_a_year(tmp_path: Path) -> None:
    with renewal_site(tmp_path) as site:
        first = site.certificate()
        failed = 0
        for day in range(365):
            root_on(site, day)
            site.authority_is_away = any(begin <= day < end for begin, end in AWAY)
            for _ in range(24 // HOURS_BETWEEN_LOOKS):
                with suppress(NightvaultError):
                    failed += 1
                    site.tick()
                    failed -= 1
                site.clock.sleep(HOURS_BETWEEN_LOOKS * 3600)
            assert site.night().startswith("ASIA"), day
        assert 365 / (7 * 0.5) - 8 < site.asked < 365 / (7 * 0.4) + 3
        assert failed  # it was noticed that the authority was away
        roots = read_roots(site.ca, site.clock.now())
        assert roots.stage is RootStage.SETTLED
        assert site.certificate().issuer == roots.certificates[0].subject != first.issuer
        assert len(set(site.sessions.serials)) == site.asked + 1
        assert len(list((tmp_path / "state" / "identity").glob("[0-9]*"))) == 2  # it keeps no old keys


def test_an_authority_away_from_the_worst_moment_on_loses_no_night(tmp_path: Path) -> None:
    with renewal_site(tmp_path) as site:
        for _ in range(12):
            due = site.tick().due_at
            site.clock.sleep((due - site.clock.now()).total_seconds())
            site.authority_is_away, back = True, site.clock.now() + timedelta(days=3)
            while site.clock.now() < back:
                with suppress(NightvaultError):
                    site.tick()
                assert site.night()
                site.clock.sleep(6 * 3600)
            site.authority_is_away = False
            site.clock.sleep(3600)
            site.tick()
            assert site.night()
