"""A limit of cost holds for every way in: nothing is requested of the vault that costs more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_in

from backup.app.money.limits import cost_of_more, limit_on_catalogs
from backup.config import Config, load_config
from backup.cost import GB
from backup.errors import LimitRefusedError
from backup.model import ArchiveId, PackKind, Tier, VaultName
from backup.operations.check import Check
from backup.operations.drill import Drill
from backup.operations.recorded import step_of
from backup.operations.restores import continue_restores
from backup.transfer.fetching.wants import whole
from tests.support.doubles import Silent
from tests.support.servers import (
    PRICES,
    Cloud,
    HurryingClock,
    Server,
    directory_server,
    replace,
    running_cloud,
)

COLD = "limited"
LIMITS = """
[prices]
file = "{table}"
[restore]
max_restore_cost = 0.01
[[drill]]
name = "weekly"
vault = "cold"
schedule = "weekly"
sample = "1 file"
max_cost_per_month = 0.01
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def server(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose cold vault asks 0.10 for each request."""
    folder = tmp_path_factory.mktemp("server")
    made = cloud.server(folder, vault=COLD, clock=HurryingClock(cloud.emulator))
    made.init()
    made.backup()
    (folder / "mine.toml").write_text(PRICES)
    text = made.config.read_text().replace(
        'name = "cold"\n', 'name = "cold"\ncheck = "weekly"\ncheck_sample = "100%"\n', 1
    )
    made.config.write_text(text + LIMITS.format(table=folder / "mine.toml"))
    return made


def retrievals(cloud: Cloud) -> list[str]:
    """The retrievals of archives that the vault was ever asked for."""
    jobs = cloud.admin("glacier").list_jobs(accountId="-", vaultName=COLD)["JobList"]
    return [job["JobId"] for job in jobs if job["Action"] == "ArchiveRetrieval"]


COMMANDS = {
    "restore": "restore latest --target {out} --key {key}",
    "restore with a limit of its own": "restore latest --target {out} --key {key} --max-cost 0.05",
    "dump": "dump latest:{source}/a.txt -o {out} --key {key}",
    "check": "check --read-data 100%",
    "drill": "drill run",
    "drill with a key": "drill run --key {key}",
    "rebuild": "rebuild --set-aside --key {key} --wait",
    "rebuild of a drill": "rebuild --dry-run --key {key} --wait",
}


@pytest.mark.parametrize("way", COMMANDS)
def test_no_command_asks_for_what_costs_more(cloud: Cloud, server: Server, tmp_path: Path, way: str) -> None:
    cloud.emulator.make_inventories()
    words = COMMANDS[way].format(out=tmp_path / "out", key=server.key_file, source=server.source)
    said = server.fails(16, *words.split())
    assert "may cost" in said if way.startswith("drill") else "more than 0.0" in said
    assert retrievals(cloud) == []
    assert server.json("restores", "--all") == []


def until_refused(step: Callable[[], object], cloud: Cloud) -> LimitRefusedError:
    """The error that ends the steps of a task, between which hours pass."""
    for _ in range(5):
        try:
            step()
        except LimitRefusedError as error:
            return error
        cloud.emulator.advance(6 * 3600)
    raise AssertionError("it was never refused")


def test_nor_does_the_daemon(cloud: Cloud, server: Server) -> None:
    """A check's sample, a drill; and restores, which are open only once they were within their limit."""
    config: Config = load_config(str(server.config))
    cloud.emulator.make_inventories()
    sampled = until_refused(
        lambda: step_of(config, Check, "cold", clock=server.clock, progress=Silent()), cloud
    )
    assert "reading 100% of vault cold would cost" in str(sampled)
    assert "more than max_restore_cost, 0.01 (prices of 2026-11-01)" in str(sampled)
    assert sampled.advice == "make check_sample smaller, or raise the limit"
    drilled = until_refused(
        lambda: step_of(config, Drill, "weekly", clock=server.clock, progress=Silent()), cloud
    )
    assert "drill weekly may cost 0.01 EUR a month: too little" in str(drilled)
    assert list(continue_restores(config, clock=server.clock, stop=threading.Event())) == []
    assert retrievals(cloud) == []


def test_within_its_limit_a_restore_is_asked_for_and_continued(
    cloud: Cloud, server: Server, tmp_path: Path
) -> None:
    """What the user allowed is not refused afterwards by the config: it was held to that before."""
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", server.key_file)
    server.waits(*words, "--max-cost", "1")
    asked = retrievals(cloud)
    assert asked
    cloud.emulator.advance(6 * 3600)
    config = load_config(str(server.config))
    (done,) = continue_restores(config, clock=server.clock, stop=threading.Event())
    report = done.report
    assert not isinstance(report, Exception)
    assert str(report.outcome) == "done"
    assert retrievals(cloud) == asked


def test_catalogs_in_a_bucket_cost_what_their_class_does(tmp_path: Path) -> None:
    """They are there at once, so no tier is dearer than another; packs are in the class that waits."""
    server = directory_server(tmp_path)
    bucket = 'kind = "s3"\nbucket = "nightvault-1"\nregion = "us-east-1"\nstorage_class = "DEEP_ARCHIVE"'
    replace(server, f'kind = "directory"\npath = "{tmp_path / "vault"}"', bucket)
    server.config.write_text(server.config.read_text() + "\n[restore]\nmax_restore_cost = 5\n")
    config = load_config(str(server.config))
    limit_on = limit_on_catalogs(config, config.vaults[0], "rebuild")
    catalog = whole(ArchiveId("catalog"), GB)
    pack = replace_in(catalog, archive_id=ArchiveId("pack"), kind=PackKind.DATA)
    costs = {tier: limit_on([catalog]).cost(tier) for tier in Tier}
    assert set(costs.values()) == {Decimal("0.10")}, "traffic, and a few requests"
    limit = limit_on([catalog, pack])
    assert (limit.cost(Tier.STANDARD) or 0) > (limit.cost(Tier.BULK) or 0) > Decimal("0.18")
    with pytest.raises(LimitRefusedError, match=r"this rebuild stays below 5: .* with expedited"):
        limit.hold(Tier.EXPEDITED)
    many = [replace_in(pack, archive_id=ArchiveId(f"pack {number}")) for number in range(60)]
    with pytest.raises(
        LimitRefusedError, match=r"this rebuild would cost .* with bulk, more than 5"
    ) as refused:
        limit_on(many).hold(Tier.BULK)
    assert refused.value.advice == "no tier fits: rebuild less, or raise the limit"


def test_what_a_restore_reads_elsewhere_costs_as_a_restore_from_there_would(tmp_path: Path) -> None:
    """A copy in a directory is free; one that waits costs its tier, and traffic."""
    server = directory_server(tmp_path)
    cold = 'kind = "s3"\nbucket = "nightvault-1"\nregion = "us-east-1"\nstorage_class = "DEEP_ARCHIVE"'
    server.config.write_text(f'{server.config.read_text()}\n[[vault]]\nname = "second"\n{cold}\n')
    config = load_config(str(server.config))
    assert cost_of_more(config, config.vaults[0].name, 3, GB, Tier.STANDARD) == 0
    costs = {tier: cost_of_more(config, VaultName("second"), 3, GB, tier) for tier in Tier}
    assert costs[Tier.EXPEDITED] is None, "it has no such tier"
    assert (costs[Tier.STANDARD] or 0) > (costs[Tier.BULK] or 0) > Decimal("0.09")
