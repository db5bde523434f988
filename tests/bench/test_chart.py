"""The chart of docs/performance.md is drawn from its tables; its programs are those that can be measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import chart
from tests.bench.peers import PEERS, usual
from tests.bench.place import Place, restored


def test_it_is_what_the_page_says() -> None:
    page = chart.PAGE.read_text()
    assert chart.PICTURE.read_text() == chart.draw(page), "run `python -m tests.bench.chart`"
    assert f"]({chart.PICTURE.name})" in page


def test_each_row_is_a_bar() -> None:
    page = chart.PAGE.read_text()
    rows = [
        line for line in page.splitlines() if line.startswith(tuple(f"| {one}" for one in ("first", "no ch")))
    ]
    found = [bar for bar in chart.bars(page) if bar.phase in {"first", "no change"}]
    assert len(found) == len([row for row in rows if row.count("|") == 11])
    assert {bar.program for bar in found} <= set(PEERS)
    ET.fromstring(chart.draw(page))


def test_the_usual_are_there_or_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/bin/it" if name == "kopia" else None)
    assert usual() == ["nightvault", "restic", "borg", "kopia"]


@pytest.mark.parametrize("name", sorted(PEERS))
def test_each_reads_the_source_and_writes_its_repository(name: str, tmp_path: Path) -> None:
    place = Place(Path("/s/source"), Path("/r/repository"), tmp_path)
    peer = PEERS[name]()
    if name != "nightvault":
        assert "/s/source" in " ".join(peer.backup(place))
    told = [*place.environment.values(), *peer.backup(place)]
    assert any("repository" in one or str(tmp_path) in one for one in told)


def test_what_was_restored_is_found(tmp_path: Path) -> None:
    target = tmp_path
    assert restored(target, Path("/s/source")) == target
    (target / "source").mkdir()
    assert restored(target, Path("/s/source")) == target / "source"
    (target / "s/source").mkdir(parents=True)
    assert restored(target, Path("/s/source")) == target / "s/source"
