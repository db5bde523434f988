"""A drill whose process is killed at random moments: the next goes on, leaves nothing, is not paid twice."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support import campaigns
from tests.support.servers import Cloud, Server, running_cloud
from tests.support.trees import snapshot_of

pytestmark = pytest.mark.slow

KILLS = campaigns.share("NIGHTVAULT_TEST_KILLS", 3)
MOST = Decimal("0.05")
DRILL = f'\n[[drill]]\nname = "weekly"\nvault = "cold"\nsample = "2 files"\nmax_cost_per_month = {MOST}\n'


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def charged(cloud: Cloud, name: str) -> Decimal:
    """What the meter charged for retrievals from a vault, and for what was fetched of them."""
    lines = [
        line
        for position in cloud.emulator.bill()["bill"]
        if position["name"] == name
        for line in position["lines"]
    ]
    of_drills = [line for line in lines if line["kind"] != "s3:STANDARD"]  # where catalogs lie
    words = ("retrieval", "download", "egress", "copy")
    return sum(
        (Decimal(line["cost"]) for line in of_drills if any(w in line["item"] for w in words)), Decimal(0)
    )


@pytest.mark.parametrize(
    ("kind", "opens"), [("glacier", False), ("s3", True)], ids=["read back, glacier", "opened, s3"]
)
def test_killed_at_random_moments(cloud: Cloud, tmp_path: Path, kind: str, opens: bool) -> None:
    name = f"killed-{os.urandom(4).hex()}"
    server = cloud.server(tmp_path / "server", vault=name, kind=kind)
    server.config.write_text(server.config.read_text() + DRILL)
    server.init()
    server.backup()
    tree, before = snapshot_of(server.source), charged(cloud, name)
    words = ["drill", "run", "weekly", *(("--key", server.key_file) if opens else ())]
    chance, killed = random.Random(20261126), 0
    began = time.monotonic()
    server.run("drill", "run", "weekly", "--dry-run")
    with server.process("drills") as process:
        process.communicate(timeout=60)
    usual = (time.monotonic() - began) * 1.5
    for _ in range(KILLS):
        with server.process(*words) as process:
            time.sleep(chance.uniform(0, usual))
            process.kill()
            killed += process.wait(60) == -9
        if chance.random() < 0.5:
            cloud.emulator.advance(6 * 3600)
    assert killed, "none was killed in time"
    finish(server, cloud, words)
    assert_within_the_month(server, charged(cloud, name) - before)
    assert not (server.state / "drills").exists()
    assert os.listdir(server.state / "restores") == [], "no keys of packs"
    assert snapshot_of(server.source) == tree


def finish(server: Server, cloud: Cloud, words: list[object]) -> None:
    """Hours pass until the drill ends well."""
    for _ in range(10):
        done = server.run(*words)
        if done.exit_code == 0:
            return
        assert done.exit_code == 17, done.output
        cloud.emulator.advance(13 * 3600)
    raise AssertionError("it waits for ever")


def assert_within_the_month(server: Server, spent: Decimal) -> None:
    """What was recorded covers what was spent, and no more than a month allows was."""
    recorded = sum(Decimal(str(drill["cost"])) for drill in server.json("drills")["drills"])
    assert spent <= recorded <= MOST, (spent, recorded)
    assert spent > 0
