"""Chart and tables of docs/performance.md are those of the journal; its programs can all be measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import chart
from tests.bench.peers import PEERS, usual
from tests.bench.place import Place, restored
from tests.bench.report import PHASES


def test_chart_and_tables_are_what_the_journal_says() -> None:
    page, journal = chart.PAGE.read_text(), chart.JOURNAL.read_text()
    assert chart.PICTURE.read_text() == chart.draw(journal), "run `python -m tests.bench.chart`"
    assert page == chart.page_of(page, journal), "run `python -m tests.bench.chart`"
    assert f"]({chart.PICTURE.name})" in page


def test_the_short_tables_have_every_phase_and_both_ways() -> None:
    beside, line = chart.tables(chart.JOURNAL.read_text())
    assert [row.split(" | ")[:2] for row in beside.splitlines()[2:]] == [
        [f"| {name}", phase] for name in "ABC" for phase in PHASES
    ]
    assert {tuple(row.split(" | ")[:2]) for row in line.splitlines()} > {
        ("| up", "nightvault"),
        ("| down", "nightvault"),
    }


def test_each_row_is_a_bar() -> None:
    page = chart.JOURNAL.read_text()
    rows = [
        line
        for line in page.splitlines()
        if line.startswith(tuple(f"| {name}" for name in ("first", "no ch")))
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
    assert any("repository" in text or str(tmp_path) in text for text in told)


def test_what_was_restored_is_found(tmp_path: Path) -> None:
    target = tmp_path
    assert restored(target, Path("/s/source")) == target
    (target / "source").mkdir()
    assert restored(target, Path("/s/source")) == target / "source"
    (target / "s/source").mkdir(parents=True)
    assert restored(target, Path("/s/source")) == target / "s/source"
