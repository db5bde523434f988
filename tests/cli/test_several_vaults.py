"""Commands that work in all vaults of a config where none is named, whether or not one of them fails."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.run_context import RunContext
from backup.cli.support.failures import worst_of
from backup.config import load_config
from backup.errors import ConfigError, ExitCode
from backup.inventory.store.database import open_inventory
from backup.model import VaultName
from backup.operations import prune as prune_operation
from backup.operations.prune import prune_context
from backup.pruner.context import PruneContext
from tests.support.aws_setups import become, emulated_account
from tests.support.clocks import EmulatorClock
from tests.support.emulated import REGION, RunningEmulator
from tests.support.forgets import DAY, forget
from tests.support.servers import OnTerminal, Server, directory_server, fill

COMMANDS = [("prune",), ("prune", "--dry-run"), ("compact",), ("compact", "--dry-run"), ("check",)]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """One with two directories, `cold` of job main and `near` of job other."""
    made = directory_server(tmp_path)
    vault = f'[[vault]]\nname = "near"\nkind = "directory"\npath = "{tmp_path / "near"}"\n'
    job = f'[[job]]\nname = "other"\nvault = "near"\nsources = ["{made.source}"]\n'
    made.config.write_text(made.config.read_text() + vault + job)
    made.init()
    return made


def three_nights(server: Server) -> None:
    """The second night has a file that only it has; the first two are forgotten then, in both vaults."""
    server.done("backup")
    only = server.source / "only the second"
    only.write_bytes(os.urandom(200_000))
    later(server)
    server.done("backup")
    only.unlink()
    later(server)
    server.done("backup")
    forget_in_both(server, 1, 2)


def later(server: Server, days: int = 1) -> None:
    server.clock.sleep(days * DAY.total_seconds())


def forget_in_both(server: Server, *numbers: int) -> None:
    forget(server, *numbers)
    forget(server, *numbers, job="other", vault="near")


def mostly_dead(server: Server) -> None:
    """The archives of the first night are needed for a few small files."""
    large = server.source / "large"
    large.write_bytes(os.urandom(3_000_000))
    server.done("backup")
    large.unlink()
    later(server)
    server.done("backup")
    forget_in_both(server, 1)


def test_prune_makes_room_in_all(server: Server) -> None:
    three_nights(server)
    plan = server.json("prune", "--dry-run")
    assert [(report["vault"], report["plan"], report["condemned"]["archives"]) for report in plan] == [
        ("cold", True, 1),
        ("near", True, 1),
    ]
    first = server.json("prune")
    assert [report["condemned"] for report in first] == [report["condemned"] for report in plan]
    assert [report["recovery_lines"].keys() for report in first] == [{"main"}, {"other"}]
    told = [
        run["report"]["vault"] for run in server.json("runs") if run["kind"] == "prune" and run["job"] is None
    ]
    assert sorted(told) == ["cold", "near"], "each is a run of its own"
    later(server, 4)
    assert [report["deleted"]["archives"] for report in server.json("prune")] == [1, 1]
    assert [report["deleted"]["archives"] for report in server.json("prune")] == [0, 0]


def test_one_that_is_named_is_alone_and_its_document_no_list(server: Server) -> None:
    three_nights(server)
    for words in COMMANDS:
        assert server.json(*words, "--vault", "near")["vault"] == "near"
    archives = {
        archive["vault"]: archive["state"]
        for archive in server.json("archives")
        if archive["state"] != "stored"
    }
    assert set(archives) == {"near"}


def test_what_people_read_names_each(server: Server) -> None:
    three_nights(server)
    for words in COMMANDS:
        result = server.run(*words, runner=OnTerminal())
        assert result.exit_code == 0, result.output
        assert result.stdout.index("vault cold") < result.stdout.index("vault near"), result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 80
        if words == ("prune",):
            for name in ("cold", "near"):
                assert f"`nightvault undelete --vault {name}`" in " ".join(result.stderr.split())


def test_compact_retires_in_all(server: Server) -> None:
    mostly_dead(server)
    plan = server.json("compact", "--dry-run")
    assert [(report["vault"], report["archives"]) for report in plan] == [("cold", 1), ("near", 1)]
    done = server.json("compact")
    assert [(report["archives"], report["recovery_lines"].keys()) for report in done] == [
        (1, {"main"}),
        (1, {"other"}),
    ]
    assert [report["archives"] for report in server.json("compact")] == [0, 0]


@pytest.mark.parametrize(("gone", "left"), [("cold", "near"), ("near", "cold")])
def test_one_that_is_away_does_not_keep_the_others(
    server: Server, tmp_path: Path, gone: str, left: str
) -> None:
    """Whether it is the first or the last: it is told, with the exit code that it has alone."""
    mostly_dead(server)
    (tmp_path / {"cold": "vault", "near": "near"}[gone]).rename(tmp_path / "unplugged")
    for words in (("prune", "--dry-run"), ("compact",), ("check",), ("prune",)):
        alone = server.json(*words, "--vault", gone, exit_code=1)["error"]
        found = {vault["vault"]: vault for vault in server.json(*words, exit_code=1)}
        assert found[gone] == {"vault": gone, "error": alone}
        assert "error" not in found[left]
        assert alone["kind"] == "vault-missing"
        said = server.fails(1, *words)
        assert f"nightvault: vault {gone}" in said
        assert alone["advice"] in said


def test_beside_a_backup_all_are_locked(server: Server) -> None:
    config = load_config(str(server.config))
    with (
        closing(open_inventory(config.inventory_url, lock_directory=config.state_dir)) as inventory,
        inventory.locked("backup"),
    ):
        found = server.json("prune", exit_code=11)
    assert [report["error"]["kind"] for report in found] == ["locked", "locked"]


def test_an_answer_is_about_one_vault(server: Server) -> None:
    for words in (("prune",), ("check",)):
        assert "which vault? cold, near" in server.fails(2, *words, "--accept", "0123456789abcdef")
    assert "which vault? cold, near" in server.fails(2, "check", "--read-data", "1%")
    assert "which vault? cold, near" in server.fails(2, "undelete", "--all")


def test_a_keeper_deletes_in_all(server: Server, tmp_path: Path) -> None:
    text = server.config.read_text().replace("[[vault]]", '[[vault]]\ndeletes = "elsewhere"')
    server.config.write_text(text)
    three_nights(server)
    server.done("prune")
    later(server, 4)
    server.done("prune")
    later(server, 40)
    keeper = Server(tmp_path / "keeper", server.clock)
    keeper.folder.mkdir()
    keeper.config.write_text(text.replace(str(server.state), str(keeper.state)))
    words = ("prune", "--delete-only", "--key", server.key_file, "--keep-within", "20d")
    found = keeper.json(*words)
    assert [(report["vault"], report["inventories"][0]["deleted"]["archives"]) for report in found] == [
        ("cold", 1),
        ("near", 1),
    ]
    (tmp_path / "vault").rename(tmp_path / "unplugged")
    found = keeper.json(*words, exit_code=1)
    assert [(report["vault"], report.get("state")) for report in found] == [("cold", None), ("near", "done")]


FAILED, PARTIAL, WAITING, DONE = ExitCode.FAILED, ExitCode.PARTIAL, ExitCode.WAITING, ExitCode.DONE


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ([], DONE),
        ([DONE, DONE], DONE),
        ([DONE, WAITING], WAITING),
        ([WAITING, PARTIAL], PARTIAL),
        ([PARTIAL, WAITING, FAILED], FAILED),
        ([WAITING, ExitCode.AWAY, FAILED], ExitCode.AWAY),
        ([FAILED, ExitCode.INTERRUPTED], FAILED),
    ],
)
def test_the_worst_exit_code(codes: list[ExitCode], worst: ExitCode) -> None:
    assert worst_of(codes) is worst


# Two vaults of an emulated AWS.


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    with emulated_account(tmp_path / "account") as running:
        yield running


def in_aws(tmp_path: Path, emulator: RunningEmulator, kind: str) -> Server:
    """A server with two vaults, by keys in the environment."""
    server = Server(tmp_path / "web1", EmulatorClock(emulator))
    fill(server.source)
    where = f'region = "{REGION}"\npart_size = "8MiB"\npack_size = "8MiB"\n'
    if kind == "s3":
        where += f'storage_class = "GLACIER"\npath_style = true\nendpoint = "{emulator.s3_url}"\n'
    else:
        where += f'endpoint = "{emulator.glacier_url}"\n'
    key = {"s3": "bucket", "glacier": "vault"}[kind]
    server.write_config(
        *(
            f'[[vault]]\nname = "{name}"\nkind = "{kind}"\n{key} = "{name}-{kind}"\n{where}'
            for name in ("cold", "near")
        ),
        f'[[job]]\nname = "other"\nvault = "near"\nsources = ["{server.source}"]\n',
    )
    server.init()
    return server


def test_cold_vaults_are_asked_before_one_is_waited_for(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, emulator)
    server = in_aws(tmp_path, emulator, "glacier")
    server.done("backup")
    emulator.make_inventories()
    for words in (("prune",), ("check",)):
        found = server.json(*words, exit_code=17)
        assert [report["state"] for report in found] == ["waiting", "waiting"]
        told = server.waits(*words).stdout
        assert "of vault cold waits for" in told
        assert "of vault near waits for" in told
    server.clock.sleep(12 * 3600)
    assert [report["state"] for report in server.json("check")] == ["done", "done"]
    assert [report["state"] for report in server.json("prune", "--wait")] == ["done", "done"]
    later(server, 2)
    server.done("backup", "--reread")
    emulator.make_inventories()
    began = server.clock.now()
    assert [report["state"] for report in server.json("check", "--wait")] == ["done", "done"]
    assert server.clock.now() - began < timedelta(hours=7), "the hours of one list, not of two"


@pytest.fixture
def to_pay_for(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Server:
    """One whose vaults hold each an archive that was condemned days ago, and is billed for months yet."""
    become(monkeypatch, emulator)
    server = in_aws(tmp_path, emulator, "s3")
    server.done("prices", "--set", f"{REGION}/s3:GLACIER/storage=1000")
    three_nights(server)
    server.done("prune")
    later(server, 4)
    return server


def test_a_fee_is_for_all_together(to_pay_for: Server) -> None:
    both = fees(to_pay_for.json("prune", "--dry-run", "--max-fee", "1000"))
    assert all(fee > 0 for fee in both)
    most = f"{max(both) + min(both) / 2:.2f}"
    assert fees(to_pay_for.json("prune", "--dry-run", "--max-fee", most)) == [both[0], 0]
    paid = [fees(to_pay_for.json("prune", "--max-fee", most)) for _ in range(3)]
    assert [[fee > 0 for fee in some] for some in paid] == [[True, False], [False, True], [False, False]]


def test_after_a_prune_that_failed_nothing_more_is_paid(
    to_pay_for: Server, emulator: RunningEmulator
) -> None:
    """It may have deleted early before it failed."""
    emulator.set_faults(
        [{"operation": "s3:DeleteObjects", "code": "MalformedXML", "status": 400, "count": 1000}]
    )
    first, second = to_pay_for.json("prune", "--max-fee", "1000", exit_code=1)
    assert "error" in first
    assert fees([second]) == [0]


def test_after_a_prune_that_could_not_begin_the_others_are_paid_for(
    to_pay_for: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_in_cold(at: RunContext, vault: VaultName) -> PruneContext:
        if vault == "cold":
            raise ConfigError("its role is gone")
        return prune_context(at, vault)

    monkeypatch.setattr(prune_operation, "prune_context", fail_in_cold)
    first, second = to_pay_for.json("prune", "--max-fee", "1000", exit_code=int(ExitCode.USAGE))
    assert first["error"]["message"] == "its role is gone"
    assert fees([second])[0] > 0


def test_without_a_price_of_each_nothing_is_begun(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, emulator)
    server = in_aws(tmp_path, emulator, "s3")
    (tmp_path / "mine.toml").write_text(
        'date = 2026-01-01\ncurrency = "USD"\nsources = ["a test"]\n'
        '[[price]]\nregion = "eu-central-1"\nkind = "s3:GLACIER"\n'
        "storage = 0.0045\noverhead = 40960\nminimum_days = 90\nupload = 0.05\negress = 0.09\n"
        "download = 0\ncopy = 0.023\n[price.retrieval]\n"
        "bulk = { gb = 0, requests = 0, hours = [5, 12] }\n"
    )
    head, its_class, rest = server.config.read_text().rpartition('storage_class = "GLACIER"')
    text = head + its_class.replace("GLACIER", "DEEP_ARCHIVE") + rest
    server.config.write_text(text + f'\n[prices]\nfile = "{tmp_path / "mine.toml"}"\n')
    assert "there is no price for vault near" in server.fails(2, "prune", "--max-fee", "1")
    assert server.json("runs") == [], "not even in the vault whose price is known"
    assert server.json("prune", "--max-fee", "1", "--vault", "cold")["vault"] == "cold"


def fees(documents: Sequence[Mapping[str, Any]]) -> list[Decimal]:
    """What each prune paid, or would pay."""
    return [Decimal(document["deleted"]["fee"] or 0) for document in documents]
