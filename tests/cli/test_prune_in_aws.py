"""`nightvault prune` in AWS: the roles, lists that take a day, minimum durations with their money."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.app.prices import builtin_prices
from backup.cli.demonstration.local_aws import BACKUP_ROLE, PRUNE_ROLE, REGION
from tests.support.emulated import RunningEmulator
from tests.support.forgetting import three_nights
from tests.support.servers import Cloud, Server, replace, running_cloud

HOURS, DAYS = 3600, 86400


class CloudClock:
    """The time of the emulated AWS; whoever sleeps lets hours pass there."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self._emulator = emulator

    def now(self) -> datetime:
        """Its time."""
        return datetime.fromisoformat(self._emulator.now()).astimezone(UTC)

    def sleep(self, seconds: float) -> None:
        """Five hours pass."""
        self._emulator.advance(5 * HOURS)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with running_cloud(tmp_path) as made:
        yield made


def server_in(cloud: Cloud, kind: str) -> Server:
    """A server with prices and three nights, two of them forgotten."""
    server = cloud.server(cloud.folder / "web1", vault="nightly", clock=CloudClock(cloud.emulator), kind=kind)
    prices = cloud.folder / "prices.toml"
    prices.write_text(builtin_prices().replace("us-east-1", REGION))
    replace(server, "[roles_anywhere]", f'[prices]\nfile = "{prices}"\n\n[roles_anywhere]')
    server.init()
    three_nights(server)
    return server


def with_prune_role(server: Server, role: str = PRUNE_ROLE) -> None:
    replace(server, f'role_arn = "{BACKUP_ROLE}"', f'role_arn = "{BACKUP_ROLE}"\nprune_role_arn = "{role}"')


def until_done(server: Server, cloud: Cloud, *words: str) -> dict[str, object]:
    """The report of a prune, for which the vault makes its list of the day."""
    result = server.run("--json", "prune", *words)
    if result.exit_code == 17:
        cloud.emulator.advance(25 * HOURS)
        cloud.emulator.make_inventories()
        for _ in range(4):
            if server.run("--json", "prune", *words).exit_code != 17:
                break
            cloud.emulator.advance(5 * HOURS)
    return dict(server.json("prune", *words))


def test_glacier(cloud: Cloud) -> None:
    """Condemned; past grace it waits for a newer list, then for the minimum duration, unless that is paid."""
    server = server_in(cloud, "glacier")
    assert "the prune waits for the vault to make its first list" in server.waits("prune").stdout
    cloud.emulator.make_inventories()
    server.waits("prune")
    cloud.emulator.advance(5 * HOURS)
    first = server.json("prune")
    assert (first["condemned"]["archives"], first["may_delete"]) == (1, False), "no prune role: only condemns"
    (group,) = first["condemned_groups"]
    assert group["free_from"] > group["grace_ends"]
    assert float(group["fee"]) > 0
    cloud.emulator.advance(5 * DAYS)
    told = server.run("prune").stdout
    assert told
    with_prune_role(server)
    waits = until_done(server, cloud)
    assert waits["may_delete"]
    assert [one["why"] for one in waits["waiting"]] == ["duration"], waits  # type: ignore[attr-defined]
    cheap = server.json("prune", "--max-fee", "0.000000001")
    assert cheap["deleted"]["archives"] == 0
    paid = server.json("prune", "--max-fee", "1")
    assert paid["deleted"]["archives"] == 1
    assert 0 < float(paid["deleted"]["fee"]) < 1
    assert server.run("prune").exit_code in {0, 17}


def test_the_backup_role_may_not_delete(cloud: Cloud) -> None:
    """A config that says "here" with a role that may not: what the vault says is told, nothing is lost."""
    server = server_in(cloud, "s3")
    with_prune_role(server, BACKUP_ROLE)
    assert server.json("prune")["condemned"]["archives"] == 1
    cloud.emulator.advance(200 * DAYS)
    result = server.run("prune")
    assert result.exit_code in {3, 14}, result.output
    assert "AccessDenied" in result.output or "not authorized" in result.output
    states = [one["state"] for one in server.json("archives")]
    assert "condemned" in states or "deleting" in states
    replace(server, f'prune_role_arn = "{BACKUP_ROLE}"', f'prune_role_arn = "{PRUNE_ROLE}"')
    cloud.emulator.advance(timedelta(days=8).total_seconds())
    assert server.json("prune")["deleted"]["archives"] == 1
