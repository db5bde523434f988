"""What was lost and only forgotten snapshots hold is no finding: else a check would fail for ever."""

from __future__ import annotations

from pathlib import Path

from backup.model import ArchiveId
from tests.support.checks import archive_ids, check, kinds
from tests.support.nightly_servers import Nights


def test_a_loss_that_only_forgotten_snapshots_have_is_over(tmp_path: Path) -> None:
    nights = Nights(tmp_path)
    for _ in range(4):
        nights.night()  # the fourth removes the file of the first
    nights.site.vault.delete_archives({ArchiveId(archive_ids(nights.site)[0]): None})
    assert kinds(check(nights.site)) == {"missing": 1}
    nights.forget(1, 2)
    report = check(nights.site)
    assert (kinds(report), report.affected.files) == ({"lost": 1}, 1)  # the third has it still
    nights.forget(3)
    report = check(nights.site)
    assert (report.findings, report.affected.files, report.is_grave) == ((), 0, False)
    nights.take_back(3)
    assert check(nights.site).is_grave
    nights.site.close()
