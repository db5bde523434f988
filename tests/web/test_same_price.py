"""The price on the page is that of `restore --dry-run`, figure by figure: of Glacier, and of an S3 class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.opened import opened
from backup.config import load_config
from backup.inventory.content.snapshots import list_snapshots
from backup.web.pages.quote import TierQuote, quote
from tests.support.servers import Cloud, Server, running_cloud

MILLIONTH = Decimal("0.000001")  # JSON tells no more
MONEY = ("total", "retrieval", "requests", "egress", "copies")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An emulated AWS in its own process."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture(scope="module", params=["glacier", "s3"])
def server(request: pytest.FixtureRequest, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with two nights in a cold vault."""
    kind = str(request.param)
    made = cloud.server(tmp_path_factory.mktemp(kind), vault=f"prices-{kind}", kind=kind)
    made.init()
    for night in range(2):
        for number in range(12):
            (made.source / f"night-{night}-{number}.bin").write_bytes(os.urandom(600_000))
        made.backup()
    return made


def figures(one: dict[str, Any]) -> tuple[object, ...]:
    """A quote of `restore --dry-run`."""
    cost = one["cost"]
    money = {name: Decimal(cost[name]) for name in MONEY}
    return one["tier"], one["archives"], one["ranges"], one["retrieved"], money, tuple(one["hours"])


def shown(one: TierQuote) -> tuple[object, ...]:
    """The same of the page."""
    money = {name: getattr(one, name).quantize(MILLIONTH) for name in MONEY}
    return one.tier, one.archives, one.retrievals, one.retrieved, money, tuple(one.hours or ())


@pytest.mark.parametrize(
    "names", [[""], ["a.txt"], ["deep", "night-0-3.bin"], ["night-1-0.bin", "night-0-11.bin"]]
)
def test_the_page_asks_for_what_the_command_asks_for(
    server: Server, tmp_path: Path, names: list[str]
) -> None:
    paths = [str(server.source / name) for name in names]
    config = load_config(str(server.config))
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        newest = max(list_snapshots(tx), key=lambda snapshot: snapshot.number)
        page = quote(tx, config, datetime.now(UTC), newest.id, [os.fsencode(path) for path in paths])
    assert len(page.tiers) >= 2
    target = tmp_path / "back"
    told = server.json("restore", f"{page.snapshot.id}:/", *paths, "--target", target, "--dry-run")
    assert (page.files, page.bytes) == (told["files"], told["bytes"])
    assert [shown(tier) for tier in page.tiers] == [figures(told_quote) for told_quote in told["quotes"]]
    assert str(page.prices_of) == told["prices"]["date"]
    assert (page.currency, page.missing) == (told["currency"], [])


def test_the_page_reads_from_where_the_command_reads(cloud: Cloud, tmp_path: Path) -> None:
    """The job's own vault is cold, and a copy is on a disk; the command tells both prices."""
    server = cloud.server(tmp_path / "server", vault="prices-copied", kind="s3")
    disk = f'[[vault]]\nname = "disk"\nkind = "directory"\npath = "{tmp_path / "disk"}"\n'
    server.config.write_text(f'{server.config.read_text()}[[job.copy]]\nvault = "disk"\n{disk}')
    server.init()
    server.backup()
    for _ in range(5):
        if server.run("copy").exit_code != 17:
            break
        cloud.emulator.advance(13 * 3600)
    config = load_config(str(server.config))
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        (night,) = list_snapshots(tx)
        page = quote(tx, config, datetime.now(UTC), night.id, [b"/"])
    told = server.json("restore", night.id, "--target", tmp_path / "back", "--dry-run")
    assert [*told["vaults"]] == [page.vault] == ["disk"]
    assert (page.is_free, page.tiers) == (True, [])
    assert {place.vault for place in page.places} == {page.vault}
    (other,) = told["elsewhere"]
    assert other["vault"] == "cold"
    assert {Decimal(of_tier["cost"]["total"]) > 0 for of_tier in other["quotes"]} == {True}
